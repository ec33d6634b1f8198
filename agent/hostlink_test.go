package agent

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/policy"
)

// linkTo asks for this host's link to a network.
func (h *host) linkTo(network string) (vmnetd.HostLink, error) {
	return h.agent.HostLink(h.t.Context(), Caller{}, vmnetd.HostLinkRequest{Network: network, IPs: []string{"192.0.2.18/24"}})
}

func TestAHostLinkThatIsTheLastMACOfItsPortIsKept(t *testing.T) {
	for _, network := range []string{"lan", "v7"} {
		t.Run(network, func(t *testing.T) {
			cfg := testConfig()
			cfg.Policy.Limits = map[string]policy.Limits{"u0": {MaxMACs: 2}} // the uplink's own, and the link's
			h := newHost(t, newWorld(), cfg)
			h.start()
			for i := range 2 {
				if l, err := h.linkTo(network); err != nil || l.Changed != (i == 0) {
					t.Fatalf("look %d: %+v, %v", i, l, err)
				}
			}
		})
	}
}

// linkInVain asks for a link while the caller's time ends in the middle of it.
func (h *host) linkInVain(req vmnetd.HostLinkRequest) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	h.w.At("HostLink", 1, func() error { cancel(); return agenttest.ErrInjected })
	if _, err := h.agent.HostLink(ctx, Caller{}, req); !errors.Is(err, agenttest.ErrInjected) {
		h.t.Errorf("%+v: %v", req, err)
	}
}

func TestAHostLinkThatFailsAsItsCallersTimeEndsNeverComes(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	seen := h.subscribe()
	h.linkInVain(vmnetd.HostLinkRequest{Network: "v7", IPs: []string{"192.0.2.18/24"}})
	if links, vlans := h.agent.HostLinks(), h.w.VLANs(); len(links)+len(vlans) != 0 {
		t.Errorf("left: %+v, %v", links, vlans)
	}
	h.w.Refuse("HostLink", 1)
	if _, err := h.linkTo("v7"); !errors.Is(err, agenttest.ErrInjected) {
		t.Error(err)
	}
	if seen.count("host-link-removed") != 0 {
		t.Error("the end of a link is told that never was")
	}
	h.halt()
	h.start()
	if links := h.agent.HostLinks(); len(links) != 0 {
		t.Errorf("after a restart: %+v", links)
	}
}

func TestAHostLinkThatCannotChangeItsUplinkLeavesNoVLANThere(t *testing.T) {
	cfg := testConfig()
	cfg.Policy.Networks[1].Uplinks = []string{"u0", "u1"} // v7
	h := newHost(t, newWorld(), cfg)
	h.start()
	if _, err := h.linkTo("v7"); err != nil {
		t.Fatal(err)
	}
	h.linkInVain(vmnetd.HostLinkRequest{Network: "v7", Uplink: "u1"})
	if got := h.w.VLANs(); !slices.Equal(got, []string{"u0.7"}) {
		t.Errorf("VLAN devices: %v", got)
	}
	if links := h.agent.HostLinks(); len(links) != 1 || links[0].Uplink != "u0" {
		t.Errorf("%+v", links)
	}
}

func TestAHostLinkIsNotBegunOnceItsCallersTimeIsUp(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := vmnetd.HostLinkRequest{Network: "lan", IPs: []string{"192.0.2.18/24"}}
	if _, err := h.agent.HostLink(ctx, Caller{}, req); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("%v", err)
	}
	if made := h.w.HostLinks(); len(made) != 0 {
		t.Errorf("made: %+v", made)
	}
}
