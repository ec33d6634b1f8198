package hypervisor

import (
	"context"
	"sync"
)

// lvTeller passes sightings on, in order and one at a time, by a goroutine of
// its own: the one who reads from libvirtd never waits for who is told, who may
// have something to ask of libvirtd.
type lvTeller struct {
	mu    sync.Mutex
	queue []Sighting
	ready chan struct{} // holds a token while there may be something to tell
}

func newLvTeller() *lvTeller { return &lvTeller{ready: make(chan struct{}, 1)} }

// say never blocks; nobody is told without a Run.
func (t *lvTeller) say(s Sighting) {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.queue = append(t.queue, s)
	t.mu.Unlock()
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

func (t *lvTeller) run(ctx context.Context, saw func(Sighting)) {
	for {
		select {
		case <-t.ready:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		queue := t.queue
		t.queue = nil
		t.mu.Unlock()
		for _, s := range queue {
			saw(s)
		}
	}
}
