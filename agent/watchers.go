package agent

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/room"
)

// keepWatch sees to what a NIC that is well needs of this process, and to what
// somebody may have taken from its device meanwhile.
func (a *Agent) keepWatch(ctx context.Context, r record) (record, error) {
	a.listen(ctx, r)
	switch {
	case r.Unforced:
		return a.enforce(ctx, r)
	case r.Guarded:
		return r, a.guardAgain(ctx, r)
	}
	return r, nil
}

// guardAgain puts a filter back that is not as it was made, for example after
// `nft flush ruleset`.
func (a *Agent) guardAgain(ctx context.Context, r record) error {
	err := a.in(ctx, r, r.where(), false, func(p room.Place) error {
		dev, err := a.dev(ctx, r)
		if err != nil {
			return err
		}
		spec, err := r.guard(dev.Ifname)
		if err != nil {
			return err
		}
		if holds, err := p.Holds(ctx, spec); err != nil || holds {
			return err
		}
		if err := p.Guard(ctx, spec); err != nil {
			return err
		}
		a.restored(r, dev.Ifname)
		return nil
	})
	if err != nil {
		return fmt.Errorf("its filter and bandwidth cannot be put in force again: %w", err)
	}
	return nil
}

// holdGuard keeps a NIC in trouble filtered: its guest goes on sending while it is
// repaired, and a repair may wait for the guest before it comes to the filter.
func (a *Agent) holdGuard(ctx context.Context, r record) {
	if r.Phase != vmnetd.Broken || !a.isUnderGuard(r) {
		return
	}
	if err := a.guardAgain(ctx, r); err != nil {
		a.o.Log.Warn("filter of a NIC in trouble", "vm", r.VM, "id", r.ID, "err", err)
	}
}

func (a *Agent) restored(r record, ifname string) {
	a.event(vmnetd.Event{Event: "filter-restored", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("somebody removed or changed the filter of %s; it is as it was", ifname)})
}

// roomChanged looks at what lives in vmnetd's own namespace: 0 is all of it, and
// room.Ended its end.
func (a *Agent) roomChanged(ifindex int) {
	var there []record
	for _, r := range a.store.of("") {
		if r.Moved && r.home() == ownRoom && (ifindex <= 0 || r.Ifindex == ifindex) {
			there = append(there, r)
		}
	}
	if ifindex == room.Ended { // a socket of ours would keep it, and in it the devices with all their addresses
		for _, r := range there {
			a.deafen(r)
		}
	}
	for _, r := range there {
		a.lookAgain(r.VM)
	}
}

// dropFilters removes filters of devices that no record has.
func (a *Agent) dropFilters(ctx context.Context) {
	names, err := a.o.Filters.Filtered(ctx)
	if err != nil {
		a.o.Log.Warn("filters", "err", err)
		return
	}
	used := map[string]bool{}
	for _, r := range a.store.of("") {
		used[r.Ifname] = true
	}
	for _, name := range names {
		if used[name] {
			continue
		}
		if err := a.o.Rooms.Here().Unguard(ctx, name); err != nil {
			a.o.Log.Warn("cannot remove the filter of a device that is no more", "ifname", name, "err", err)
		}
	}
}

// Counters implements API.
func (a *Agent) Counters(ctx context.Context, vm, id string) ([]vmnetd.Counter, error) {
	r, ok := a.store.get(key{vm, id})
	if !ok {
		return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no attachment %s", vmnetd.FullName(vm, id)).WithNext("vmnetd list")
	}
	counters := []vmnetd.Counter{}
	if !r.Guarded {
		return counters, nil
	}
	dev, err := a.dev(ctx, r)
	if err != nil {
		return nil, err
	}
	err = a.in(ctx, r, r.where(), false, func(p room.Place) error {
		counters, err = p.Counters(ctx, dev.Ifname)
		return err
	})
	return counters, err
}

// takeTerms puts what new rules say about a NIC that stays as it is in force at
// once: what it may send, and how much.
func (a *Agent) takeTerms(ctx context.Context, r record, now terms) record {
	was := r.Terms
	now.IPs, now.Routes, now.Flag = was.IPs, was.Routes, was.Flag
	if reflect.DeepEqual(was, now) {
		return r
	}
	r.Terms, r.Unforced = now, r.Phase == vmnetd.Attached // otherwise whoever brings it there takes these
	if was.Learn {                                        // else it is what an adopted device has, of which rules say nothing
		r.Heard = slices.DeleteFunc(slices.Clone(r.Heard), func(h heard) bool { return !now.Learn || !now.gives(h.IP) })
	}
	if !now.Learn {
		r.Refused, r.RefusedIP = "", netip.Addr{}
	}
	r.showIPs()
	if err := a.store.put(r); err != nil {
		a.stuck(r, err)
		return r
	}
	a.linkGuestsChanged(r)
	if !now.Learn {
		a.deafen(r)
	}
	if !r.Unforced {
		return r
	}
	r, err := a.enforce(ctx, r)
	if err != nil {
		a.stuck(r, err)
		r.Problem = err.Error()
	}
	a.listen(ctx, r)
	return r
}

// enforce has the device of a NIC be what its terms say: what it may send, how it
// stands on its bridge, how long its broadcast queue is. Each look at the NIC tries
// again until it is.
func (a *Agent) enforce(ctx context.Context, r record) (record, error) {
	dev, err := a.dev(ctx, r)
	if err == nil {
		r, err = a.guard(ctx, r, dev)
	}
	switch {
	case err != nil, r.inForeignHands():
	case r.Moved:
		r, _, err = a.settle(ctx, r, dev)
	default:
		r, _, err = a.device(ctx, r)
	}
	if err != nil {
		return r, fmt.Errorf("what the rules say now is not in force: %w", err)
	}
	r.Unforced = false
	a.store.note(r)
	return r, nil
}
