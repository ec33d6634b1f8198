package agent

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/proc"
)

// owners waits for the processes that attachments by fd live as long as.
type owners struct {
	ctx   context.Context
	ended func(key)
	wg    sync.WaitGroup

	mu       sync.Mutex
	watching map[key]watched
}

type watched struct {
	owner Owner
	stop  context.CancelFunc
}

func (o *owners) init(ctx context.Context, ended func(key)) {
	o.ctx, o.ended, o.watching = ctx, ended, map[key]watched{}
}

// watch has ended called once when the owner's process has ended, at once if it
// has already. Watching another owner of the same attachment ends the first watch.
func (o *owners) watch(k key, owner Owner) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, ok := o.watching[k]
	if ok && was.owner == owner {
		return
	}
	if ok {
		was.stop()
	}
	ctx, cancel := context.WithCancel(o.ctx)
	o.watching[k] = watched{owner, cancel}
	o.wg.Add(1)
	go func() {
		defer o.wg.Done()
		defer cancel()
		p, err := proc.Open(owner.PID, owner.Start)
		if err == nil {
			defer p.Close()
			err = p.Wait(ctx)
		}
		if err == nil || errors.Is(err, os.ErrNotExist) {
			o.ended(k)
		}
	}()
}

func (o *owners) drop(k key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w, ok := o.watching[k]; ok {
		w.stop()
	}
	delete(o.watching, k)
}

func (o *owners) wait() { o.wg.Wait() }

// ownerEnded looks at an attachment whose owner has ended.
func (a *Agent) ownerEnded(k key) { a.lookAgain(k.vm) }

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

// lookAtOwner finishes, follows or removes an attachment by fd. QEMU's
// -daemonize leaves the queues to a child: then that process is the owner.
func (a *Agent) lookAtOwner(ctx context.Context, r record) {
	if r.Owner == nil {
		if !a.offers.open(r.key()) {
			a.ended(ctx, r, "nobody claimed its queues")
		}
		return
	}
	if !a.alive(*r.Owner) && !a.inherit(ctx, &r) {
		return
	}
	a.owners.watch(r.key(), *r.Owner)
	if r.Phase == vmnetd.Attached && a.sound(ctx, r) {
		return
	}
	dev, err := a.o.Devices.Find(ctx, r.Ifname)
	if err == nil && r.Handed != dev.Ifindex {
		err = errQueuesGone
	}
	if err == nil {
		_, err = a.linkUp(ctx, r, dev)
	}
	if err != nil {
		a.lostByOwner(r, err)
	}
}

// inherit makes the process that holds the queues now the owner, or removes what
// nobody holds any more.
func (a *Agent) inherit(ctx context.Context, r *record) bool {
	pids := a.holders(ctx, *r)
	if len(pids) == 0 {
		a.ended(ctx, *r, "the process that held its queues has ended")
		return false
	}
	owner, err := a.ownerOf(pids[0])
	if err == nil {
		r.Owner = &owner
		err = a.store.put(*r)
	}
	if err != nil {
		a.o.Log.Warn("cannot follow the queues to their holder yet", "vm", r.VM, "id", r.ID, "err", err)
		a.lookLater(r.key())
	}
	return err == nil
}

func (a *Agent) ended(ctx context.Context, r record, why string) {
	r.Phase, r.Problem = vmnetd.Detaching, why
	a.store.note(r)
	a.finishDetach(ctx, r)
}

var errQueuesGone = vmnetd.Errorf(vmnetd.ErrBusy, "its device has gone, and with it the queues that the process holds: %w", errWaiting).
	WithNext("restart the VM")

func (a *Agent) lostByOwner(r record, err error) {
	if errors.Is(err, vmnetd.ErrNotFound) {
		err = errQueuesGone
	}
	if r.Problem == err.Error() {
		return
	}
	r.Phase, r.Problem = vmnetd.Broken, err.Error()
	if err := a.store.put(r); err != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
	}
	a.event(vmnetd.Event{Event: "broken", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: r.Problem})
	a.changed(r)
}
