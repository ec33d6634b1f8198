package agent

import (
	"context"
	"fmt"

	"github.com/vmnetd/vmnetd"
)

// lookForPromisc sees whether the MAC of a NIC that has just gone up was one too
// many for its uplink's unicast filter: then the device receives everything from
// now on (net/core/dev_addr_lists.c, __dev_set_rx_mode), and says so to nobody.
func (a *Agent) lookForPromisc(ctx context.Context, r record) {
	info := r.Mode.Info()
	if info.Family != vmnetd.FamilyMacvlan || info.Exclusive || r.Filled != 0 || a.filledAt(r.Uplink) != 0 {
		return
	}
	spec, ok := a.specOf(r.Uplink)
	if !ok {
		return
	}
	state, err := a.o.Uplinks.State(ctx, spec)
	if err != nil || state.Link.Promisc == 0 || state.Master.Index != 0 {
		return
	}
	macs := 1 // the uplink's own
	for _, other := range a.store.on(r.Uplink) {
		if other.Phase == vmnetd.Attached && other.Mode.Info().Family == info.Family {
			macs++
		}
	}
	a.mu.Lock()
	a.filled[r.Uplink] = macs
	a.mu.Unlock()
	r.Filled = macs
	a.store.note(r)
	a.event(vmnetd.Event{Event: "promiscuous", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("with %d MACs the unicast filter of %s is full: it receives every frame from now on", macs, state.Link.Name)})
}

// filledAt is with how many MACs an uplink's unicast filter was full; 0: it never
// was seen to be.
func (a *Agent) filledAt(uplink string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.filled[uplink]
}

// loadFilled takes up what earlier runs have seen.
func (a *Agent) loadFilled() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.store.of("") {
		if r.Filled != 0 {
			a.filled[r.Uplink] = r.Filled
		}
	}
}
