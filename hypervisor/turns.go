package hypervisor

import (
	"context"
	"sync"
)

// turns is a queue for each thing that serves one client at a time, such as a
// QMP socket: we must not be the ones who keep ourselves waiting without a word.
// The zero value is ready.
type turns struct {
	mu sync.Mutex
	of map[string]*turn
}

type turn struct {
	free  chan struct{}
	users int
}

// take waits for the turn; give it back.
func (t *turns) take(ctx context.Context, key string) (giveBack func(), err error) {
	own := t.enter(key)
	select {
	case own.free <- struct{}{}:
		return func() { <-own.free; t.leave(key, own) }, nil
	case <-ctx.Done():
		t.leave(key, own)
		return nil, ctx.Err()
	}
}

func (t *turns) enter(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.of[key]
	if own == nil {
		own = &turn{free: make(chan struct{}, 1)}
		if t.of == nil {
			t.of = map[string]*turn{}
		}
		t.of[key] = own
	}
	own.users++
	return own
}

func (t *turns) leave(key string, own *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(t.of, key)
	}
}
