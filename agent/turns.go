package agent

import (
	"context"
	"sync"
)

// turns runs jobs: those of one VM one after the other, those of different VMs
// side by side. A VM without jobs costs nothing.
type turns struct {
	mu      sync.Mutex
	waiting map[string][]func(context.Context) // a VM that is in the map has its goroutine
	queued  map[string]bool                    // VMs with a look-again job in line
	closed  bool
	ctx     context.Context
	wg      sync.WaitGroup
}

func newTurns(ctx context.Context) *turns {
	return &turns{ctx: ctx, waiting: map[string][]func(context.Context){}, queued: map[string]bool{}}
}

// do puts a job in line and says whether it was taken: none is after close.
func (t *turns) do(vm string, job func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.add(vm, job)
}

// again puts a look-again job in line unless one stands there already.
func (t *turns) again(vm string, job func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.queued[vm] {
		return
	}
	t.queued[vm] = t.add(vm, func(ctx context.Context) {
		t.mu.Lock()
		delete(t.queued, vm)
		t.mu.Unlock()
		job(ctx)
	})
}

func (t *turns) add(vm string, job func(context.Context)) bool {
	if t.closed {
		return false
	}
	jobs, running := t.waiting[vm]
	t.waiting[vm] = append(jobs, job)
	if !running {
		t.wg.Add(1)
		go t.run(vm)
	}
	return true
}

func (t *turns) run(vm string) {
	defer t.wg.Done()
	for {
		t.mu.Lock()
		jobs := t.waiting[vm]
		if len(jobs) == 0 {
			delete(t.waiting, vm)
			t.mu.Unlock()
			return
		}
		t.waiting[vm] = jobs[1:]
		t.mu.Unlock()
		jobs[0](t.ctx)
	}
}

// close takes no more jobs and waits for those in line.
func (t *turns) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}
