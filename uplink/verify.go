package uplink

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
)

const (
	// settleTime is how long links and a probed address may take after an apply:
	// a switch port that is learned anew forwards after a moment. lacpTime is
	// how much longer two ends may take to agree: they wait two seconds before
	// they choose an aggregator (802.1AX 6.4.9), and switches take their time.
	settleTime = 8 * time.Second
	lacpTime   = 4 * time.Second
	settlePace = 100 * time.Millisecond
)

// verify looks whether the apply has brought what it should: it returns once
// all is well, or says what still is not after settleTime.
func (m *Manager) verify(ctx context.Context, w way) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime+w.agrees()+w.listens())
	defer cancel()
	tick := time.NewTicker(settlePace) // LACP and neighbours have no event that would say so
	defer tick.Stop()
	var last error
	for {
		now, err := m.kernel.look(ctx)
		if err == nil { // before carrier, which LACP may be the reason for
			err = m.partners(ctx, w, now)
		}
		if err == nil {
			err = missing(w, now)
		}
		if err == nil {
			err = m.probes(ctx, w)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// agrees is how much longer it takes where LACP is spoken.
func (w way) agrees() time.Duration {
	if slices.ContainsFunc(w.concerned(), speaksLACP) {
		return lacpTime
	}
	return 0
}

// listens is how long a bridge of the apply has no carrier because of STP: its
// ports listen and learn, each for the forward delay, before they forward (IEEE
// 802.1D 8.6.1; net/bridge/br_stp.c, br_port_state_selection).
func (w way) listens() time.Duration {
	delay := defaultForwardDelay
	for _, s := range w.concerned() {
		bridge := w.want[w.declared.device(s.Name)]
		if bridge.Kind != kindBridge || bridge.Options["stp_state"] != "1" {
			continue
		}
		if n := number(bridge.Options["forward_delay"]); n > 0 {
			delay = time.Duration(n) * 10 * time.Millisecond // clock_t
		}
		return 2 * delay
	}
	return 0
}

// defaultForwardDelay is a bridge's that is made (net/bridge/br_device.c,
// br_dev_setup).
const defaultForwardDelay = 15 * time.Second

// concerned is the uplinks whose devices the steps touch, or whose ports.
func (w way) concerned() []Spec {
	touched := map[string]bool{}
	for _, s := range w.steps {
		touched[s.Device], touched[s.Master] = true, true
	}
	var specs []Spec
	for _, s := range w.declared.Specs {
		device := w.declared.device(s.Name)
		over := w.want.over(device)
		if s.Ours() && (touched[device] || slices.ContainsFunc(over, func(o string) bool { return touched[o] })) {
			specs = append(specs, s)
		}
	}
	return specs
}

// missing is the first uplink that has no carrier although something under it
// had, before the apply.
func missing(w way, now World) error {
	for _, s := range w.concerned() {
		device := w.declared.device(s.Name)
		switch {
		case !now.there(device):
			return vmnetd.Errorf(vmnetd.ErrFailed, "%s is not there after the apply", device)
		case now[device].Carrier || !w.want[device].Up:
		case w.carried(device):
			return vmnetd.Errorf(vmnetd.ErrFailed, "%s has no carrier after the apply, and %s had one before", device, strings.Join(w.carriers(device), " and ")).
				WithNext("see whether both ends agree:  vmnetd uplink show " + s.Name)
		}
	}
	return nil
}

// carriers is the devices at the bottom of one that had carrier before.
func (w way) carriers(device string) []string {
	var out []string
	under := w.want.ports(device)
	if lower := w.want[device].Lower; lower != "" {
		under = append(under, lower)
	}
	if len(under) == 0 && w.is[device].Carrier {
		return []string{device}
	}
	for _, u := range under {
		out = append(out, w.carriers(u)...)
	}
	return sortedSet(out)
}

func (w way) carried(device string) bool { return len(w.carriers(device)) > 0 }

// partners is the first uplink that speaks LACP and has nobody to speak to.
func (m *Manager) partners(ctx context.Context, w way, now World) error {
	for _, s := range w.concerned() {
		if !speaksLACP(s) || !now.there(s.Name) || !w.carried(s.Name) {
			continue
		}
		found, err := m.partner(ctx, s)
		if err != nil {
			return err
		}
		if !found {
			return vmnetd.Errorf(vmnetd.ErrFailed, "no LACP partner answers %s", s.Name).
				WithNext("set the switch's ports to LACP, in one group, or use the mode active-backup")
		}
	}
	return nil
}

// partner says whether anybody answers the LACP of an uplink.
func (m *Manager) partner(ctx context.Context, s Spec) (bool, error) {
	l, err := m.o.Conn.LinkByName(ctx, s.Name)
	if err != nil {
		return false, err
	}
	if l.Kind == kindTeam {
		state, err := m.o.Teams.State(ctx, l.Name)
		return slices.ContainsFunc(state.Ports, func(p vmnetd.TeamPort) bool { return p.Selected && isPartner(p.PartnerMAC) }), err
	}
	a := bonding.Status(l, nil, "", m.nameOf).Aggregator
	return a != nil && isPartner(a.PartnerMAC), nil
}

func speaksLACP(s Spec) bool {
	return s.Bond != nil && s.Bond.Mode == "802.3ad" || s.Team != nil && s.Team.Runner.Name == "lacp"
}

// noPartner is the address that an aggregator has while nobody answers.
const noPartner = "00:00:00:00:00:00"

func isPartner(mac string) bool { return mac != "" && mac != noPartner }

// probes is the first probe address that does not answer.
func (m *Manager) probes(ctx context.Context, w way) error {
	for _, s := range w.concerned() {
		if !s.Probe.IsValid() {
			continue
		}
		device := w.declared.device(s.Name)
		if err := m.probe(ctx, device, s.Probe); err != nil {
			return err
		}
	}
	return nil
}
