package hypervisor

import (
	"context"
	"errors"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Run tells of namespaces that were found when they go, until ctx ends. The kernel
// tells the end of each by its number, without us holding it; that a path goes
// while processes are still in the namespace (ip netns del) is seen in its folder.
// The zero Sighting says that the watch has begun. While nothing happens, Run does
// nothing.
func (n *Netns) Run(ctx context.Context, saw func(Sighting)) error {
	conn, err := n.open()
	if err != nil {
		return err
	}
	defer conn.Close()
	ends, err := conn.WatchNSIDs()
	if err != nil {
		return err
	}
	dirs, err := newDirWatch()
	if err != nil {
		ends.Close()
		return err
	}
	w := &netnsWatch{n: n, saw: saw, dirs: dirs, events: make(chan []dirEvent), ended: make(chan int)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return ends.Run(ctx, func(id int) {
			select {
			case w.ended <- id:
			case <-ctx.Done():
			}
		})
	})
	g.Go(func() error {
		dirs.pass(ctx, w.events)
		return nil
	})
	g.Go(func() error {
		defer dirs.close()
		return w.loop(ctx)
	})
	return g.Wait()
}

// netnsWatch is one Run. Only loop touches it.
type netnsWatch struct {
	n      *Netns
	saw    func(Sighting)
	dirs   *dirWatch
	events chan []dirEvent
	ended  chan int
}

func (w *netnsWatch) loop(ctx context.Context) error {
	known, more, err := w.follow()
	if err != nil {
		return err
	}
	w.look(ctx, known)
	w.saw(Sighting{})
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-w.ended:
			these := numbered(known, id)
			w.look(ctx, these)
			w.doubt(these)
		case events := <-w.events:
			if !slices.ContainsFunc(events, w.dirs.matters) {
				continue
			}
			w.look(ctx, known)
		case <-more:
		}
		before := known
		if known, more, err = w.follow(); err != nil {
			return err
		}
		w.look(ctx, newer(known, before)) // one may have gone before its folder was watched
	}
}

// follow watches the folders of what has been found; more is closed when that
// grows.
func (w *netnsWatch) follow() (known map[netnsKey]netnsFound, more <-chan struct{}, err error) {
	w.n.mu.Lock()
	known, more = maps.Clone(w.n.found), w.n.more
	w.n.mu.Unlock()
	var patterns []pattern
	for k := range known {
		patterns = append(patterns, literal(k.name, k.path))
	}
	return known, more, w.dirs.follow(patterns)
}

// numbered is those with a number, all for -1.
func numbered(known map[netnsKey]netnsFound, id int) map[netnsKey]netnsFound {
	out := maps.Clone(known)
	maps.DeleteFunc(out, func(_ netnsKey, f netnsFound) bool { return id != -1 && f.nsid != id })
	return out
}

func newer(known, before map[netnsKey]netnsFound) map[netnsKey]netnsFound {
	out := maps.Clone(known)
	maps.DeleteFunc(out, func(k netnsKey, f netnsFound) bool { return before[k] == f })
	return out
}

// look tells of those that are not at their path any more, and forgets them.
func (w *netnsWatch) look(ctx context.Context, which map[netnsKey]netnsFound) {
	for k, f := range which {
		if w.n.gone(ctx, k.path, f) && w.n.forget(k, f) {
			w.saw(Sighting{Name: k.name, Via: viaNetns + k.path})
		}
	}
}

// doubt has those looked at again that may be the next ones, with the number and the
// inode of the ones that have ended.
func (w *netnsWatch) doubt(which map[netnsKey]netnsFound) {
	for k, f := range which {
		if !rtnl.Drawn(f.nsid) && w.n.remembers(k, f) {
			w.saw(Sighting{Name: k.name, Via: viaNetns + k.path, Here: true})
		}
	}
}

func (n *Netns) remembers(k netnsKey, f netnsFound) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.found[k] == f
}

// forget is false where another namespace was found there since, in that name.
func (n *Netns) forget(k netnsKey, f netnsFound) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.found[k] != f {
		return false
	}
	delete(n.found, k)
	return true
}

// errNoNumber says that a namespace is not one that was found.
var errNoNumber = errors.New("it has no number")

// gone says whether a namespace is not at its path any more. What cannot be told
// is no reason to take it for gone.
func (n *Netns) gone(ctx context.Context, path string, f netnsFound) bool {
	ns, _, err := n.at(path)
	if err != nil {
		return errors.Is(err, vmnetd.ErrNotFound) || errors.Is(err, vmnetd.ErrInvalid)
	}
	defer ns.Close()
	now, err := n.identify(ctx, ns, func(c *rtnl.Conn, ctx context.Context, fd int) (int, error) {
		id, ok, err := c.NSID(ctx, fd)
		if err == nil && !ok {
			err = errNoNumber
		}
		return id, err
	})
	if err != nil {
		return errors.Is(err, errNoNumber) || errors.Is(err, errOurs) || errors.Is(err, unix.ENONET)
	}
	return now.instance != f.instance
}
