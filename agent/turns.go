package agent

import (
	"context"
	"sync"
)

// turns has the jobs of one VM one after the other, those of different VMs
// side by side. A VM without jobs costs nothing.
//
// A job holds its VM's records for itself, but for the time of a call to the
// hypervisor (away): libvirtd answers no call about a VM before the hook that it
// runs for that VM has ended, so whoever waited for libvirtd with the records in
// hand would wait for the hook, and the hook for him. A hook does not stand in
// line: it takes the records between two steps of the job, which is told so.
type turns struct {
	mu     sync.Mutex
	vms    map[string]*turn // those with a job or a hook
	closed bool
	ctx    context.Context
	wg     sync.WaitGroup
}

// turn is one VM's.
type turn struct {
	records sync.Mutex // held by the job while it does not call the hypervisor, and by a hook
	hooks   int        // how many changed something; guarded by records

	// Guarded by turns.mu.
	waiting []func(context.Context)
	runs    bool // it has its goroutine
	queued  bool // a look-again job is in line
	users   int  // the goroutine, and hooks
}

func newTurns(ctx context.Context) *turns {
	return &turns{ctx: ctx, vms: map[string]*turn{}}
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
	if own := t.vms[vm]; own != nil && own.queued {
		return
	}
	if !t.add(vm, func(ctx context.Context) {
		t.mu.Lock()
		t.vms[vm].queued = false
		t.mu.Unlock()
		job(ctx)
	}) {
		return
	}
	t.vms[vm].queued = true
}

func (t *turns) add(vm string, job func(context.Context)) bool {
	if t.closed {
		return false
	}
	own := t.enter(vm)
	own.waiting = append(own.waiting, job)
	if own.runs {
		own.users--
		return true
	}
	own.runs = true
	t.wg.Add(1)
	go t.run(vm, own)
	return true
}

func (t *turns) enter(vm string) *turn {
	own := t.vms[vm]
	if own == nil {
		own = &turn{}
		t.vms[vm] = own
	}
	own.users++
	return own
}

func (t *turns) leave(vm string, own *turn) {
	if own.users--; own.users == 0 {
		delete(t.vms, vm)
	}
}

func (t *turns) run(vm string, own *turn) {
	defer t.wg.Done()
	ctx := context.WithValue(t.ctx, turnKey{}, own)
	for {
		t.mu.Lock()
		if len(own.waiting) == 0 {
			own.runs = false
			t.leave(vm, own)
			t.mu.Unlock()
			return
		}
		job := own.waiting[0]
		own.waiting = own.waiting[1:]
		t.mu.Unlock()
		own.records.Lock()
		job(ctx)
		own.records.Unlock()
	}
}

// hook runs a job as soon as the VM's records are in nobody's hand, before all
// jobs in line; whoever is in a call to the hypervisor then finds himself
// overtaken. It says whether the job was run.
func (t *turns) hook(vm string, job func() (changed bool)) bool {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	own := t.enter(vm)
	t.wg.Add(1)
	t.mu.Unlock()
	defer t.wg.Done()
	own.records.Lock()
	if job() {
		own.hooks++
	}
	own.records.Unlock()
	t.mu.Lock()
	t.leave(vm, own)
	t.mu.Unlock()
	return true
}

// close takes no more jobs and waits for those in line.
func (t *turns) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}
