package hypervisor

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ears is the part of Run that keeps a connection to each second socket. Only
// its loop touches by.
type ears struct {
	q      *QMP
	saw    func(Sighting)
	dirs   *dirWatch
	by     map[string]*listening // by path
	owned  sync.WaitGroup
	events chan []dirEvent
	ended  chan earEnd
}

// listening is a socket that is, or was, listened to.
type listening struct {
	node   nodeID
	cancel context.CancelFunc
	dead   bool // nothing came of it: it is tried again when the node is another one
}

type earEnd struct {
	path string
	of   *listening
	dead bool
}

// earPause is how long a socket is left alone whose connection has ended: one
// that is closed again and again must not keep us busy.
const earPause = time.Second

// runEars follows the events patterns until ctx ends.
func (q *QMP) runEars(ctx context.Context, saw func(Sighting)) error {
	dirs, err := newDirWatch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &ears{
		q: q, saw: saw, dirs: dirs, by: map[string]*listening{},
		events: make(chan []dirEvent), ended: make(chan earEnd),
	}
	w.owned.Go(func() { dirs.pass(ctx, w.events) })
	err = w.loop(ctx)
	cancel()
	dirs.close()
	w.owned.Wait()
	return err
}

func (w *ears) loop(ctx context.Context) error {
	for again := true; ; {
		patterns, changed := w.q.listened()
		if again {
			if err := w.look(ctx, patterns); err != nil {
				return err
			}
		}
		again = true
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case events := <-w.events:
			again = slices.ContainsFunc(events, w.dirs.matters)
		case end := <-w.ended:
			w.end(end)
		}
	}
}

// look makes the connections be those to the sockets that exist.
func (w *ears) look(ctx context.Context, patterns []pattern) error {
	if err := w.dirs.follow(patterns); err != nil {
		return err
	}
	there := w.q.eventSockets(patterns)
	for path, l := range w.by {
		if _, ok := there[path]; !ok && (l.dead || !w.q.listens(path)) {
			l.cancel() // a pattern that was taken out, or a VM that has gone; QEMU goes on speaking through a node that was removed
			delete(w.by, path)
		}
	}
	for path, name := range there {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue
		}
		l := w.by[path]
		if l != nil && l.node == idOf(&st) {
			continue
		}
		if l != nil {
			l.cancel()
		}
		w.by[path] = w.start(ctx, name, path, idOf(&st))
	}
	return nil
}

// start listens to one socket, on a goroutine of its own.
func (w *ears) start(ctx context.Context, name, path string, node nodeID) *listening {
	own, cancel := context.WithCancel(ctx)
	l := &listening{node: node, cancel: cancel}
	told := func(filter bool) { w.saw(w.q.sightingOf(name, filter)) }
	w.owned.Go(func() {
		defer cancel()
		heard, err := w.q.listen(own, name, path, told)
		if own.Err() != nil {
			return
		}
		switch {
		case heard:
			told(false)
			_ = wait(own, earPause)
		case !nobodyThere(err):
			w.q.log.Warn("an events socket is not used", "vm", name, "socket", path, "error", err)
		}
		select {
		case w.ended <- earEnd{path: path, of: l, dead: !heard}:
		case <-own.Done():
		}
	})
	return l
}

// end takes note of it; another node may have taken the place meanwhile.
func (w *ears) end(e earEnd) {
	if w.by[e.path] != e.of {
		return
	}
	if e.dead {
		e.of.dead = true
	} else {
		delete(w.by, e.path)
	}
}

// listened is the events patterns, and a channel that is closed when they change.
func (q *QMP) listened() ([]pattern, <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.events, q.changed
}

// listens says whether a socket belongs to an events pattern.
func (q *QMP) listens(path string) bool {
	patterns, _ := q.listened()
	for _, p := range patterns {
		if _, ok := p.vmAt(path); ok {
			return true
		}
	}
	return false
}

// openEvents opens the node of an events socket.
func (q *QMP) openEvents(path string) (*node, error) {
	patterns, _ := q.listened()
	return openCovered(patterns, path)
}

// sightingOf is a Sighting of a VM that is there.
func (q *QMP) sightingOf(name string, filter bool) Sighting {
	s := Sighting{Name: name, Via: viaQMP, Socket: q.socketNow(name), Here: true, Filter: filter}
	if s.Socket != "" {
		s.Via += ":" + s.Socket
	}
	return s
}

// socketNow is the socket that a VM is reached by, "" when none is known.
func (q *QMP) socketNow(name string) string {
	for _, p := range q.config() {
		if path := p.path(name); isSocket(path) {
			return path
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for path, p := range q.named {
		if p.vm == name {
			return path
		}
	}
	return ""
}
