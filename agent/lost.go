package agent

import (
	"context"
	"reflect"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
)

// everybody is the turn of jobs about the NICs of all VMs. No VM has that name.
const everybody = ""

// filtersLost looks at every filter after somebody else touched the tables.
func (a *Agent) filtersLost() {
	a.turns.again(everybody, a.restoreFilters)
}

// restoreFilters puts all filters of this namespace back at once that are not as
// they were made: a VM's turn after the other would take seconds, and what guests
// send leaves meanwhile. It waits for no VM's turn, so whose record is another by
// then is looked at again in its own.
func (a *Agent) restoreFilters(ctx context.Context) {
	guarded, specs := a.guardedHere()
	place := a.o.Rooms.Here()
	lost, err := place.Lost(ctx, specs)
	if err == nil && len(lost) == 0 {
		return
	}
	if err == nil {
		err = place.GuardAll(ctx, lost)
	}
	if err != nil { // one by one, each with what is wrong with it
		a.o.Log.Warn("filters", "err", err)
		for _, r := range guarded {
			a.lookAgain(r.VM)
		}
		return
	}
	for _, spec := range lost {
		r := guarded[spec.Ifname]
		a.restored(r, spec.Ifname)
		a.followRestored(r, spec)
	}
}

// guardedHere is what is guarded in this namespace, by the device's name, and how.
func (a *Agent) guardedHere() (map[string]record, []filter.Spec) {
	guarded := map[string]record{}
	var specs []filter.Spec
	for _, r := range a.store.of("") {
		if !a.isUnderGuard(r) || r.where() != "" {
			continue
		}
		spec, err := r.guard(r.Ifname)
		if err != nil { // its VM's turn says so
			a.lookAgain(r.VM)
			continue
		}
		guarded[r.Ifname] = r
		specs = append(specs, spec)
	}
	return guarded, specs
}

// isUnderGuard says that a NIC's device may be up, with a filter: one in trouble goes
// on sending.
func (a *Agent) isUnderGuard(r record) bool {
	_, here := a.o.Links.ByName(r.Ifname)
	return r.Guarded && (r.Moved || here) && (r.Phase == vmnetd.Attached || r.Phase == vmnetd.Broken)
}

// followRestored sees to a NIC whose record has changed while its filter was
// restored: what was put there is no longer what belongs there.
func (a *Agent) followRestored(r record, put filter.Spec) {
	now, ok := a.store.get(r.key())
	if ok {
		if spec, err := now.guard(now.Ifname); err != nil || !a.isUnderGuard(now) || !reflect.DeepEqual(spec, put) {
			a.lookAgain(r.VM)
		}
		return
	}
	a.turns.do(r.VM, func(ctx context.Context) {
		if _, again := a.store.get(r.key()); again {
			return
		}
		if err := a.o.Rooms.Here().Unguard(ctx, put.Ifname); err != nil {
			a.o.Log.Warn("cannot remove the filter of a device that is no more", "ifname", put.Ifname, "err", err)
		}
	})
}
