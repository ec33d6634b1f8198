package hypervisor

import (
	"context"
	"sync"

	"github.com/digitalocean/go-qemu/qmp"
)

// eventQueue holds every event from the greeting on until somebody reads it:
// none is lost, and none holds up a reply. The connection lives for a second;
// what limits the queue is Limits.Message.
type eventQueue struct {
	mu     sync.Mutex
	items  []message
	size   int
	ready  chan struct{} // holds a token while there may be something to see
	closed error         // why there will be no more
}

func newEventQueue() *eventQueue { return &eventQueue{ready: make(chan struct{}, 1)} }

// put adds an event and returns how many bytes wait now.
func (q *eventQueue) put(m message) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, m)
	q.size += m.size
	q.signal()
	return q.size
}

func (q *eventQueue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = err
	}
	q.signal()
}

func (q *eventQueue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// next waits for an event; what came before the end is delivered first.
func (q *eventQueue) next(ctx context.Context) (qmp.Event, error) {
	for {
		if ev, err, ok := q.take(); ok {
			return ev, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return qmp.Event{}, ctx.Err()
		}
	}
}

func (q *eventQueue) take() (qmp.Event, error, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		if q.closed != nil {
			q.signal() // for the next reader
		}
		return qmp.Event{}, q.closed, q.closed != nil
	}
	m := q.items[0]
	q.items = q.items[1:]
	q.size -= m.size
	if len(q.items) > 0 || q.closed != nil {
		q.signal()
	}
	return *m.event, nil, true
}
