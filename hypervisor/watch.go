package hypervisor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/proc"
)

// Run watches for VMs that come and go until ctx ends, and calls saw, one call
// at a time, for each; for those that are there already, too. A VM comes when
// somebody listens on its socket. It goes when its QEMU ends, or, where the
// process behind the socket is not known, when the socket is deleted or
// nobody listens on it any more. The zero Sighting says that the watch has
// begun: whatever goes from then on is told. While nothing happens, Run does
// nothing.
//
// A VM with an events socket also tells when its CPUs stop or go on, when a
// device has gone, and (Sighting.Filter) when its guest changes what a NIC
// receives. Run keeps the one connection to each.
func (q *QMP) Run(ctx context.Context, saw func(Sighting)) error {
	var one sync.Mutex
	begun := make(chan struct{})
	alone := func(s Sighting) {
		one.Lock()
		defer one.Unlock()
		saw(s)
		if s == (Sighting{}) {
			close(begun)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return q.watch(ctx, alone) })
	g.Go(func() error {
		select {
		case <-begun:
			return q.runEars(ctx, alone)
		case <-ctx.Done():
			return nil
		}
	})
	return g.Wait()
}

func (q *QMP) watch(ctx context.Context, saw func(Sighting)) error {
	dirs, err := newDirWatch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{
		q: q, saw: saw, dirs: dirs, vms: map[string]*watched{},
		events: make(chan []dirEvent), probed: make(chan probe), ended: make(chan *proc.Process),
	}
	w.owned.Go(func() { dirs.pass(ctx, w.events) })
	err = w.loop(ctx)
	cancel()
	dirs.close()
	w.owned.Wait()
	for _, v := range w.vms {
		v.letGo()
	}
	return err
}

// watcher is one Run. Only loop touches vms, dirs.wanted and saw.
type watcher struct {
	q    *QMP
	saw  func(Sighting)
	dirs *dirWatch
	vms  map[string]*watched // by socket

	owned  sync.WaitGroup // every goroutine of this Run
	events chan []dirEvent
	probed chan probe
	ended  chan *proc.Process
}

// watched is a socket that exists or existed.
type watched struct {
	name     string
	node     nodeID
	here     bool   // saw was told so
	instance string // of who was here
	qemu     *proc.Process
	probing  bool
	again    bool // something happened while probing
}

func (v *watched) letGo() {
	if v.qemu != nil {
		_ = v.qemu.Close()
		v.qemu = nil
	}
}

// probe is what one look at a socket found.
type probe struct {
	path     string
	instance string
	qemu     *proc.Process // nil when it is not certain which process it is
	err      error         // nobody listens
}

func (w *watcher) loop(ctx context.Context) error {
	for begun := false; ; begun = true {
		patterns, changed := w.q.followed()
		if err := w.dirs.follow(patterns); err != nil {
			return err
		}
		w.look(ctx, patterns, nil)
		if !begun {
			w.saw(Sighting{})
		}
		if err := w.serve(ctx, changed); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// serve acts on what happens until the patterns change or ctx ends.
func (w *watcher) serve(ctx context.Context, changed <-chan struct{}) error {
	for {
		patterns, _ := w.q.followed()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			return nil
		case events := <-w.events:
			names := w.mattering(events)
			if names == nil {
				continue
			}
			if err := w.dirs.follow(patterns); err != nil {
				return err
			}
			w.look(ctx, patterns, names)
		case p := <-w.probed:
			w.take(ctx, p)
		case qemu := <-w.ended:
			w.end(qemu)
			w.look(ctx, patterns, nil)
		}
	}
}

// mattering lists the names in events that concern us, nil when there is none.
func (w *watcher) mattering(events []dirEvent) []string {
	var names []string
	for _, ev := range events {
		if w.dirs.matters(ev) {
			names = append(names, ev.name)
		}
	}
	return names
}

// look compares the sockets that exist with those that are known. touched are
// names that something happened to.
func (w *watcher) look(ctx context.Context, patterns []pattern, touched []string) {
	there := w.q.socketsOf(patterns)
	for path, v := range w.vms {
		if _, ok := there[path]; !ok && v.qemu == nil && !v.probing {
			w.gone(path, v)
			w.q.leaves(path, nodeID{})
			delete(w.vms, path)
		}
	}
	for path, name := range there {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue
		}
		v := w.vms[path]
		if v == nil {
			v = &watched{name: name}
			w.vms[path] = v
		}
		// A socket that nobody listened on is looked at again when it is
		// another one, or was touched; one with an unknown process behind it
		// whenever anything happens, for nothing else tells that it went.
		if v.node != idOf(&st) || concerns(path, touched) || v.here && v.qemu == nil {
			v.node = idOf(&st)
			w.ask(ctx, path, v)
		}
	}
}

// concerns says whether one of the names is a component of path.
func concerns(path string, names []string) bool {
	parts := strings.Split(path, "/")
	return slices.ContainsFunc(names, func(n string) bool { return n != "" && slices.Contains(parts, n) })
}

// ask looks at a socket without holding up the others: a new one may take up to
// Limits.Appear until somebody listens.
func (w *watcher) ask(ctx context.Context, path string, v *watched) {
	if v.probing {
		v.again = true
		return
	}
	v.probing = true
	name := v.name
	w.owned.Go(func() {
		p := w.q.probe(ctx, name, path)
		select {
		case w.probed <- p:
		case <-ctx.Done():
			if p.qemu != nil {
				_ = p.qemu.Close()
			}
		}
	})
}

// probe connects, looks who is there, and leaves at once: where that is QEMU
// itself, it waits for no greeting, so a socket that somebody else holds is no
// obstacle.
func (q *QMP) probe(ctx context.Context, name, path string) probe {
	p := probe{path: path}
	n, err := q.openSocket(path)
	if err != nil {
		p.err = err
		return p
	}
	defer n.close()
	conn, err := n.connect(ctx, q.appear(n))
	if errors.Is(err, unix.EAGAIN) {
		return p // listen(2)'s queue is full: somebody is there
	}
	if err != nil {
		p.err = err
		return p
	}
	who, err := identify(conn, n, name)
	_ = conn.Close()
	if who.pid == 0 && err == nil {
		who = q.identifyGreeted(ctx, name, path, who)
	}
	if err != nil {
		p.err = err
		return p
	}
	p.instance = who.instance
	if who.pid != 0 {
		p.qemu, p.err = proc.Open(who.pid, who.start) // fails when it has ended meanwhile
	}
	return p
}

// identifyGreeted asks once more, see identifyAgain; a socket that is busy
// keeps its first answer.
func (q *QMP) identifyGreeted(ctx context.Context, name, path string, first peer) peer {
	l, err := q.connectFor(ctx, name, path, patience{})
	if err != nil {
		return first
	}
	defer l.close()
	return l.peer
}

// take acts on what a probe found.
func (w *watcher) take(ctx context.Context, p probe) {
	v := w.vms[p.path]
	v.probing = false
	switch {
	case p.err != nil && v.qemu == nil:
		if !nobodyThere(p.err) {
			w.q.log.Warn("a socket is not used", "vm", v.name, "socket", p.path, "error", p.err)
		}
		v.here = true // told even where nobody was seen: it may have gone since the watch began
		w.gone(p.path, v)
	case p.err != nil: // the process is followed, and tells when it ends
	case v.here && (p.instance == "" || p.instance == v.instance):
		closeProcess(p.qemu)
	default:
		w.come(ctx, v, p)
	}
	if v.again {
		v.again = false
		w.ask(ctx, p.path, v)
	}
}

func closeProcess(p *proc.Process) {
	if p != nil {
		_ = p.Close()
	}
}

func (w *watcher) come(ctx context.Context, v *watched, p probe) {
	if v.here { // the run before this one
		v.letGo()
		w.gone(p.path, v)
	}
	v.here, v.instance, v.qemu = true, p.instance, p.qemu
	w.saw(Sighting{Name: v.name, Via: viaQMP + ":" + p.path, Socket: p.path, Here: true})
	if p.qemu == nil {
		return
	}
	w.owned.Go(func() {
		if p.qemu.Wait(ctx) != nil {
			return // closed, or Run ends
		}
		select {
		case w.ended <- p.qemu:
		case <-ctx.Done():
		}
	})
}

// end is the end of a process that was followed. Its socket may be there still:
// a QEMU that is killed leaves it.
func (w *watcher) end(qemu *proc.Process) {
	for path, v := range w.vms {
		if v.qemu == qemu {
			v.letGo()
			w.q.leaves(path, v.node)
			w.gone(path, v)
		}
	}
}

func (w *watcher) gone(path string, v *watched) {
	if !v.here {
		return
	}
	v.here, v.instance = false, ""
	w.q.forget(path)
	w.saw(Sighting{Name: v.name, Via: viaQMP + ":" + path, Socket: path})
}
