package agent

import (
	"context"
	"fmt"
	"reflect"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/room"
)

// keepWatch sees to what a NIC that is well needs of this process, and to what
// somebody may have taken from its device meanwhile.
func (a *Agent) keepWatch(ctx context.Context, r record) {
	a.listen(ctx, r)
	if r.Guarded {
		a.guardAgain(ctx, r)
	}
}

// filtersLost looks at every filter after somebody else touched the table.
func (a *Agent) filtersLost() {
	for _, r := range a.store.of("") {
		if r.Guarded && r.Phase == vmnetd.Attached && r.where() == "" {
			a.turns.do(r.VM, func(ctx context.Context) {
				if now, ok := a.store.get(r.key()); ok && now.Phase == vmnetd.Attached {
					a.guardAgain(ctx, now)
				}
			})
		}
	}
}

// guardAgain puts a filter back that is not as it was made, for example after
// `nft flush ruleset`.
func (a *Agent) guardAgain(ctx context.Context, r record) {
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
		a.event(vmnetd.Event{Event: "filter-restored", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("somebody removed or changed the filter of %s; it is as it was", dev.Ifname)})
		return nil
	})
	if err != nil {
		a.stuck(r, fmt.Errorf("its filter and bandwidth cannot be put in force again: %w", err))
	}
}

// roomChanged looks at what lives in vmnetd's own namespace, 0: all of it.
func (a *Agent) roomChanged(ifindex int) {
	for _, r := range a.store.of("") {
		if r.Moved && r.home() == ownRoom && (ifindex == 0 || r.Ifindex == ifindex) {
			a.lookAgain(r.VM)
		}
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
	r.Terms = now
	if err := a.store.put(r); err != nil {
		a.stuck(r, err)
		return r
	}
	if !now.Learn && was.Learn {
		a.deafen(r)
	}
	if r.Phase != vmnetd.Attached {
		return r // whoever brings it there takes these
	}
	dev, err := a.dev(ctx, r)
	if err == nil {
		r, err = a.guard(ctx, r, dev)
	}
	if err == nil && !r.Moved {
		r, _, err = a.device(ctx, r) // how it stands on its bridge, how long its broadcast queue is
	}
	if err != nil {
		a.stuck(r, fmt.Errorf("what the rules say now is not in force: %w", err))
	}
	a.listen(ctx, r)
	return r
}
