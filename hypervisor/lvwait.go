package hypervisor

import (
	"context"
	"time"
)

// lvTries is how soon to try again after libvirtd went or its socket came: it
// listens a moment after the node is there, and with socket activation systemd
// has the node and listens on.
var lvTries = []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond, time.Second, 3 * time.Second}

// lvFrozen is how soon to try again where something listens and does not let us
// in: no node tells when that ends.
const lvFrozen = 30 * time.Second

// lvWait waits for libvirtd's socket: by inotify, not by looking again and again.
type lvWait struct {
	dirs     *dirWatch
	patterns []pattern
	events   chan []dirEvent
	done     chan struct{}
	tries    int
}

func newLvWait(sockets []string) (*lvWait, error) {
	dirs, err := newDirWatch()
	if err != nil {
		return nil, err
	}
	w := &lvWait{dirs: dirs, events: make(chan []dirEvent), done: make(chan struct{})}
	for _, s := range sockets {
		w.patterns = append(w.patterns, literal(viaLibvirt, s))
	}
	if err := dirs.follow(w.patterns); err != nil {
		dirs.close()
		return nil, err
	}
	go w.read()
	return w, nil
}

func (w *lvWait) read() {
	defer close(w.events)
	buf := make([]byte, 16<<10)
	for {
		events, err := w.dirs.read(buf)
		if err != nil {
			return // closed
		}
		select {
		case w.events <- events:
		case <-w.done:
			return
		}
	}
}

func (w *lvWait) close() {
	close(w.done)
	w.dirs.close()
	for range w.events { // until the reader has ended
	}
}

// next waits until it is time to try again after err; false: not here any more.
func (w *lvWait) next(ctx context.Context, err error, changed <-chan struct{}) bool {
	var later <-chan time.Time
	switch {
	case w.tries < len(lvTries):
		later = time.After(lvTries[w.tries])
		w.tries++
	case !absent(err):
		later = time.After(lvFrozen)
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return false
		case <-later:
			return true
		case events := <-w.events:
			if w.touched(events) {
				w.tries = 0
				return true
			}
		}
	}
}

func (w *lvWait) touched(events []dirEvent) (ours bool) {
	for _, ev := range events {
		ours = ours || w.dirs.matters(ev)
	}
	if ours && w.dirs.follow(w.patterns) != nil {
		return false
	}
	return ours
}
