package agent

import (
	"context"
	"fmt"

	"github.com/vmnetd/vmnetd"
)

// promiscuity is how many users have set a NIC's uplink promiscuous; -1 where it
// need not be known.
func (a *Agent) promiscuity(ctx context.Context, r record) int {
	info := r.Mode.Info()
	if info.Family != vmnetd.FamilyMacvlan || info.Exclusive || a.filledAt(r.Uplink) != 0 {
		return -1
	}
	spec, ok := a.specOf(r.Uplink)
	if !ok {
		return -1
	}
	link, err := a.o.Uplinks.Link(ctx, spec)
	if err != nil {
		return -1
	}
	return link.Promisc
}

// lookForPromisc sees whether the MAC of a NIC that has just gone up was one too
// many for its uplink's unicast filter: then the device receives everything from
// now on (net/core/dev.c, __dev_set_rx_mode), and says so to nobody.
func (a *Agent) lookForPromisc(ctx context.Context, r record, before int) record {
	if before < 0 || a.promiscuity(ctx, r) <= before {
		return r
	}
	macs := 2 // the uplink's own and this one
	for _, other := range a.store.on(r.Uplink) {
		if other.key() != r.key() && other.Phase == vmnetd.Attached && other.Mode.Info().Family == vmnetd.FamilyMacvlan {
			macs++
		}
	}
	a.mu.Lock()
	a.filled[r.Uplink] = macs
	a.mu.Unlock()
	r.Filled = macs
	a.event(vmnetd.Event{Event: "promiscuous", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("with %d MACs the unicast filter of %s is full: it receives every frame from now on", macs, r.Uplink)})
	return r
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
