package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// Configure puts a configuration in force, Sockets and Events; with a bad one
// (vmnetd.ErrInvalid) the old one stays. A pattern is an absolute path with {vm}
// in one of its components: /run/vmnetd/qmp/{vm}.sock. One cannot be both, since
// QEMU serves one client at a time on a socket and ours would stay.
func (q *QMP) Configure(c Config) error {
	sockets, err := parsePatterns(c.Sockets)
	if err != nil {
		return err
	}
	events, err := parsePatterns(c.Events)
	if err != nil {
		return err
	}
	for _, e := range events {
		if slices.ContainsFunc(sockets, func(p pattern) bool { return p.text == e.text }) {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is a pattern of sockets and of events sockets, and QEMU serves one client at a time on each", e.text).
				WithNext("give QEMU a second -qmp socket for events, and write where it is")
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.patterns, q.events = sockets, events
	q.signalChange()
	return nil
}

// Options is what NewQMP needs. The zero value works.
type Options struct {
	Patterns []string // as Config.Sockets; a bad one is logged and none is used
	FP       failpoint.Set
	Log      *slog.Logger
	Limits   Limits
}

// QMP reaches VMs through their QMP sockets. Its methods may be called by
// several goroutines at once; those for one socket take turns.
type QMP struct {
	limits Limits
	log    *slog.Logger
	hit    func(failpoint.Point) error
	turns  turns // by path

	mu       sync.Mutex
	patterns []pattern
	events   []pattern           // of second sockets
	ears     map[string]*ear     // by VM name: those that listen
	named    map[string]pattern  // sockets that were named and found, outside of the patterns: followed until they go
	changed  chan struct{}       // closed and replaced when one of these two changes
	left     map[string]nodeID   // by path: nodes that a VM which has ended left behind
	known    map[string]*known   // by path
	recalled map[string]recalled // by path
}

// NewQMP makes a QMP; Run has to run for it to notice VMs by itself.
func NewQMP(o Options) *QMP {
	q := &QMP{
		limits: o.Limits.withDefaults(), log: o.Log, hit: o.FP.Hit,
		changed: make(chan struct{}), named: map[string]pattern{}, left: map[string]nodeID{}, known: map[string]*known{},
		recalled: map[string]recalled{}, ears: map[string]*ear{},
	}
	if q.log == nil {
		q.log = slog.New(slog.DiscardHandler)
	}
	if err := q.Configure(Config{Sockets: o.Patterns}); err != nil {
		q.log.Error("no socket pattern is used", "error", err)
	}
	return q
}

func (q *QMP) signalChange() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// config is the patterns now.
func (q *QMP) config() []pattern {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.patterns
}

// followed is what Run watches, and a channel that is closed when that changes.
func (q *QMP) followed() ([]pattern, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := slices.Clone(q.patterns)
	for _, p := range q.named {
		all = append(all, p)
	}
	return all, q.changed
}

// remember has Run follow a VM whose socket was named.
func (q *QMP) remember(vm, path string) {
	if slices.ContainsFunc(q.config(), func(p pattern) bool { return p.path(vm) == path }) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := literal(vm, path); q.named[path] != p {
		q.named[path] = p
		q.signalChange()
	}
}

// forget ends that when the VM has gone.
func (q *QMP) forget(path string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.known, path)
	delete(q.recalled, path)
	if _, ok := q.named[path]; ok {
		delete(q.named, path)
		q.signalChange()
	}
}

// Sockets lists the sockets that exist and match a pattern, by VM name. Of two
// for one VM the earlier pattern's counts.
func (q *QMP) Sockets() map[string]string {
	patterns := q.config()
	found := map[string]string{}
	for i := range patterns {
		for path, vm := range q.socketsOf(patterns[len(patterns)-1-i:][:1]) {
			found[vm] = path
		}
	}
	return found
}

// link is a connection to one VM's QEMU, for as long as one operation takes.
type link struct {
	*engine
	peer
	conn     *Conn
	path     string
	node     nodeID
	giveBack func()
	log      *slog.Logger
}

// close lets others have the socket.
func (l *link) close() {
	_ = l.conn.Disconnect()
	l.giveBack()
	if held := time.Since(l.since); held > time.Second {
		l.log.Warn("a QMP socket was held for long: QEMU was slow to answer", "vm", l.vm, "socket", l.path, "held", held)
	}
}

// connect connects to the socket of a VM, trying for Limits.Busy while somebody
// else holds it.
func (q *QMP) connect(ctx context.Context, name, path string) (*link, error) {
	return q.connectFor(ctx, name, path, patience{busy: q.limits.Busy, appear: q.limits.Appear})
}

// patience is how long to wait for a socket.
type patience struct {
	busy   time.Duration // while somebody else holds it; 0: ask once
	appear time.Duration // for listen(2) on a node this young; 0: whoever has listened before has gone
}

func (q *QMP) connectFor(ctx context.Context, name, path string, p patience) (*link, error) {
	giveBack, err := q.turns.take(ctx, path)
	if err != nil {
		return nil, err
	}
	n, err := q.openSocket(path)
	if err != nil {
		giveBack()
		return nil, err
	}
	defer n.close()
	l := &link{
		engine: &engine{vm: name, limits: q.limits, hit: q.hit},
		path:   path, node: n.id(), giveBack: giveBack, log: q.log,
	}
	if err := q.untilFree(ctx, l, n, p); err != nil {
		giveBack()
		if errors.Is(err, errNoReply) { // stopped between its greeting and the first answer
			err = q.explain(l, err)
		}
		return nil, err
	}
	l.known = q.knows(path, l.peer)
	return l, nil
}

// untilFree connects and asks to be served, again and again.
func (q *QMP) untilFree(ctx context.Context, l *link, n *node, p patience) error {
	start := time.Now()
	for {
		err := q.once(ctx, l, n, p.appear)
		busy := errors.Is(err, errNoGreeting) || errors.Is(err, unix.EAGAIN) // EAGAIN: listen(2)'s queue is full
		if !busy {
			return err
		}
		if err := q.whyBusy(l, n, time.Since(start), p.busy); err != nil {
			return err
		}
		if errors.Is(err, unix.EAGAIN) {
			if err := wait(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
}

func (q *QMP) once(ctx context.Context, l *link, n *node, appear time.Duration) error {
	l.conn = newConn(q.dialer(n, l.vm, appear, &l.peer), q.limits)
	l.monitor, l.since = l.conn, time.Now()
	if err := l.conn.Open(ctx); err != nil || l.pid != 0 {
		return err
	}
	return l.identifyAgain(ctx, n)
}

// dialer connects to a node within appear of its making, and finds out who is
// there.
func (q *QMP) dialer(n *node, vm string, appear time.Duration, who *peer) func(context.Context) (*net.UnixConn, error) {
	return func(ctx context.Context) (*net.UnixConn, error) {
		conn, err := n.connect(ctx, min(appear, q.appear(n)))
		if err != nil {
			return nil, err
		}
		if *who, err = identify(conn, n, vm); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

// identifyAgain: a QEMU that was given its socket by somebody who listened
// before calls listen(2) once more (util/qemu-sockets.c, socket_listen), which
// makes it the peer, but only for who connects after that. It has greeted us, so
// it has done so by now.
func (l *link) identifyAgain(ctx context.Context, n *node) error {
	conn, err := n.connect(ctx, 0)
	if err != nil {
		return nil // its queue is full, or it has just gone: the next command tells
	}
	defer conn.Close()
	l.peer, err = identify(conn, n, l.vm)
	return err
}

// appear is how long somebody may take to listen on a node. A VM that was killed
// leaves a node on which nobody ever will.
func (q *QMP) appear(n *node) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left[n.path] == n.id() {
		return 0
	}
	return q.limits.Appear
}

// leaves notes the node that a VM which has ended left behind; the zero id
// forgets it.
func (q *QMP) leaves(path string, id nodeID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if id == (nodeID{}) {
		delete(q.left, path)
	} else {
		q.left[path] = id
	}
}

// whyBusy is the error that says who keeps us from being served; nil when it is
// worth trying again. It looks while we wait: a holder that has left is not
// found any more.
func (q *QMP) whyBusy(l *link, n *node, tried, patience time.Duration) error {
	h, err := findHolder(n)
	if pid := q.stoppedQEMU(l, n); pid != 0 {
		return frozen(l, pid)
	}
	if tried < patience {
		return nil
	}
	triedFor, within := "", ""
	if patience > 0 {
		round := tried.Round(time.Second / 10)
		triedFor, within = fmt.Sprintf("; tried for %v", round), fmt.Sprintf(" within %v", round)
	}
	if err == nil {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s is held by %v, and QEMU serves one client at a time%s", l.path, h, triedFor).
			WithNext("let that program disconnect, or give QEMU a second -qmp socket")
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "nobody answers on %s%s: another program holds it, or QEMU hangs (%w)", l.path, within, err).
		WithNext("find who is connected with: ss -xp; or give QEMU a second -qmp socket")
}

// stoppedQEMU is the process that should serve us and cannot, because it is
// stopped; 0 when there is none. Where listen(2)'s queue is full already, no
// connection tells who it is: what is known from before does, or the kernel's
// list of sockets.
func (q *QMP) stoppedQEMU(l *link, n *node) int {
	pids := []int{l.pid, l.listener}
	if vm, ok := q.recall(l.vm, l.path); ok {
		pids = append(pids, vm.PID)
	}
	if l.listener == 0 {
		pids = append(pids, findListener(n))
	}
	for _, pid := range pids {
		if pid != 0 && stopped(pid) {
			return pid
		}
	}
	return 0
}

func frozen(l *link, pid int) error {
	return vmnetd.Errorf(vmnetd.ErrFailed, "QEMU of VM %s (process %d) is stopped and answers nothing: %w", vmnetd.Printable(l.vm), pid, errNoReply).
		WithNext("let it go on: kill -CONT " + itoa(pid))
}
