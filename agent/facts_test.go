package agent

import (
	"context"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/uplink"
)

// stacked is uplinks that all are in one state.
type stacked struct {
	agenttest.Uplinks
	state uplink.State
}

func (s stacked) State(context.Context, uplink.Spec) (uplink.State, error) { return s.state, nil }

// unfit is why a NIC in VLAN 7 of an uplink in that state is refused.
func unfit(t *testing.T, s uplink.State) string {
	t.Helper()
	a := fresh(t, newWorld(), &scripted{accepted: testConfig()})
	if err := a.loadConfig(); err != nil {
		t.Fatal(err)
	}
	s.Present, s.Link = true, rtnl.Link{Name: "u0", MTU: 1500, Up: true, Carrier: true}
	a.o.Uplinks = stacked{state: s}
	_, err := a.decide(t.Context(), vmnetd.Request{VM: "fw1", Network: "v7"}, hypervisor.VM{Name: "fw1"})
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAVLANThatIsSomebodysPortFitsNobody(t *testing.T) {
	on := uplink.OnVLAN{ID: 7, Link: rtnl.Link{Name: "u0.7", MTU: 1500}}
	if why := unfit(t, uplink.State{VLANs: []uplink.OnVLAN{on}}); why != "" {
		t.Errorf("a VLAN that is nobody's: %s", why)
	}
	on.Master = rtnl.Link{Name: "br7", Kind: "bridge"}
	if why := unfit(t, uplink.State{VLANs: []uplink.OnVLAN{on}}); !strings.Contains(why, "u0.7 is a port of bridge br7") {
		t.Errorf("it said %q", why)
	}
}

func TestAnUplinkOverABondThatRewritesMACsFitsNobody(t *testing.T) {
	if why := unfit(t, uplink.State{BondMode: "balance-alb"}); !strings.Contains(why, "bond mode balance-alb rewrites") {
		t.Errorf("it said %q", why)
	}
}
