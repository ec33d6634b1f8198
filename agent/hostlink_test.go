package agent

import (
	"testing"

	"github.com/vmnetd/vmnetd"
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
