package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/proc"
)

// owners waits for the processes that attachments by fd live as long as.
type owners struct {
	ctx   context.Context
	ended func(key, error)
	wg    sync.WaitGroup

	mu       sync.Mutex
	watching map[key]*watched
}

type watched struct {
	owner Owner
	stop  context.CancelFunc
}

func (o *owners) init(ctx context.Context, ended func(key, error)) {
	o.ctx, o.ended, o.watching = ctx, ended, map[key]*watched{}
}

// watch has ended called once when the owner's process has ended, at once if it
// has already, and with an error when that cannot be waited for. Watching
// another owner of the same attachment ends the first watch.
func (o *owners) watch(k key, owner Owner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.watching[k]
	if was != nil && was.owner == owner {
		return
	}
	if was != nil {
		was.stop()
	}
	ctx, cancel := context.WithCancel(o.ctx)
	w := &watched{owner, cancel}
	o.watching[k] = w
	o.wg.Go(func() {
		defer cancel()
		err := await(ctx, owner)
		if ctx.Err() != nil {
			return
		}
		o.forget(k, w)
		o.ended(k, err)
	})
}

// await returns nil when the process has ended.
func await(ctx context.Context, owner Owner) error {
	p, err := proc.Open(owner.PID, owner.Start)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Wait(ctx)
}

func (o *owners) forget(k key, w *watched) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watching[k] == w {
		delete(o.watching, k)
	}
}

func (o *owners) drop(k key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w := o.watching[k]; w != nil {
		w.stop()
	}
	delete(o.watching, k)
}

func (o *owners) wait() { o.wg.Wait() }

// ownerEnded looks at an attachment whose owner has ended, or cannot be waited
// for (no more pidfds, for one).
func (a *Agent) ownerEnded(k key, err error) {
	if err != nil {
		a.o.Log.Warn("cannot wait for the process that holds the queues", "vm", k.vm, "id", k.id, "err", err)
		a.lookLater(k)
		return
	}
	a.lookAgain(k.vm)
}

// ownerOf describes the process that runs under a PID now.
func (a *Agent) ownerOf(pid int) (Owner, error) {
	start, err := proc.StartTime(pid)
	return Owner{PID: pid, Start: start, Boot: a.o.Boot}, err
}

func (a *Agent) alive(o Owner) bool {
	start, err := proc.StartTime(o.PID)
	return err == nil && start == o.Start && o.Boot == a.o.Boot
}

// ownerless says that whoever was given an attachment's queues has ended, and
// nobody else holds them.
func (a *Agent) ownerless(ctx context.Context, r record) bool {
	return r.byFD() && r.Owner != nil && !a.alive(*r.Owner) && len(a.holders(ctx, r)) == 0
}

// lookAtOwner finishes, follows or removes an attachment by fd.
func (a *Agent) lookAtOwner(ctx context.Context, r record) {
	if a.offers.isOpen(r.key()) || !a.owned(ctx, &r) {
		return
	}
	a.owners.watch(r.key(), *r.Owner)
	if r.Phase == vmnetd.Attached && a.sound(ctx, r) {
		a.well(ctx, r)
		return
	}
	if r, err := a.putRight(ctx, r); err != nil {
		vm, _ := a.o.Hypervisor.Find(ctx, r.VM, "") // where it has a socket that we know
		_ = a.troubled(ctx, r, vm, err)             // noted in the record
	}
}

// putRight gives the device of an attachment by fd again what its process can
// change through the queues, and sets it up. One that has gone is not made anew:
// nobody would hold its queues.
func (a *Agent) putRight(ctx context.Context, r record) (record, error) {
	r, dev, err := a.locate(ctx, r)
	if err == nil && r.Moved { // none is moved before its queues are held
		r.Handed = dev.Ifindex
	}
	if err == nil && r.Handed == dev.Ifindex && r.Uplink != "" {
		r, dev, err = a.device(ctx, r)
	}
	switch {
	case errors.Is(err, vmnetd.ErrNotFound), err == nil && r.Handed != dev.Ifindex:
		return r, errQueuesGone
	case err != nil:
		return r, err
	}
	if r, err = a.finish(ctx, r, dev); err == nil {
		a.listen(ctx, r)
	}
	return r, err
}

// owned says whether the record's queues are in somebody's hands, as its owner
// from now on; what nobody holds is removed. QEMU's -daemonize leaves the queues
// to a child: then that process is the owner. Of a claim whose end is not known
// only the holders tell whether the queues were delivered.
func (a *Agent) owned(ctx context.Context, r *record) bool {
	if r.Handed == 0 {
		a.ended(ctx, *r, "nobody claimed its queues")
		return false
	}
	alive := r.Owner != nil && a.alive(*r.Owner)
	if alive && r.Phase != vmnetd.Pending {
		return true
	}
	pids := a.holders(ctx, *r)
	switch {
	case len(pids) == 0:
		a.ended(ctx, *r, "no process holds its queues any more")
		return false
	case alive && (slices.Contains(pids, r.Owner.PID) || pids[0] == unknownPID):
		return true
	case pids[0] == unknownPID:
		a.stuck(*r, vmnetd.Errorf(vmnetd.ErrBusy, "who holds its queues is not known: not every process could be searched"))
		return false
	}
	return a.inherit(r, pids[0])
}

func (a *Agent) inherit(r *record, pid int) bool {
	owner, err := a.ownerOf(pid)
	if err == nil {
		r.Owner = &owner
		err = a.store.put(*r)
	}
	if err != nil {
		a.stuck(*r, fmt.Errorf("cannot follow its queues to process %d: %w", pid, err))
	}
	return err == nil
}

// forgetEnded removes the NICs by fd of a VM whose process has ended, where that
// was not looked at yet.
func (a *Agent) forgetEnded(ctx context.Context, vm string) {
	for _, r := range a.store.of(vm) {
		if r.byFD() && r.Owner != nil && !a.alive(*r.Owner) && r.Phase != vmnetd.Detaching {
			a.lookAtOwner(ctx, r)
		}
	}
}

func (a *Agent) ended(ctx context.Context, r record, why string) {
	a.o.Log.Info("a NIC is not its VM's any more", "vm", r.VM, "id", r.ID, "why", why)
	r.Phase, r.Problem = vmnetd.Detaching, why
	a.store.note(r)
	a.finishDetach(ctx, r)
}

var errQueuesGone = vmnetd.Errorf(vmnetd.ErrBusy, "its device has gone, and with it the queues that the process holds: %w", errWaiting).
	WithNext("restart the VM")
