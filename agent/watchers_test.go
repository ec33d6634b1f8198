package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

// reload has other rules count.
func (h *host) reload(cfg Config) {
	h.t.Helper()
	h.cfg.next = cfg
	if err := h.agent.Reload(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func TestRulesThatCouldNotBePutInForceAreTheNICsProblemUntilTheyAre(t *testing.T) {
	h, a := attachedHost(t)
	att := a.List("vm1")[0]
	cfg := testConfig()
	for i := range cfg.Policy.Networks {
		cfg.Policy.Networks[i].Grant.Bandwidth.Out.Bits = 1e9
	}
	h.w.Refuse("Guard", 1000)
	h.reload(cfg)
	for range 3 {
		eventually(t, "said", func() error {
			if now := a.List("vm1")[0]; !strings.Contains(now.Problem, "not in force") || now.Phase != vmnetd.Attached {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
		reconciled(t, a, "vm1")
	}
	h.w.Refuse("Guard", 0)
	reconciled(t, a, "vm1")
	if g, _ := h.w.Guard("", att.Ifname); g.Out.Bits != 1e9 {
		t.Errorf("%+v", g)
	}
	if now := a.List("vm1")[0]; now.Problem != "" || now.Ifindex != att.Ifindex {
		t.Errorf("%+v", now)
	}
}

func TestAGuestIsNoLongerListenedToWhenRulesEndLearning(t *testing.T) {
	learning := func(on bool) Config {
		cfg := testConfig()
		for i := range cfg.Policy.Networks {
			cfg.Policy.Networks[i].Grant.IPs = policy.IPs{Given: true, Learn: on}
		}
		return cfg
	}
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, learning(true))
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1"})
	name := vmnetd.FullName("vm1", att.ID)
	eventually(t, "heard", is(func() bool { return w.Hears(name) != "" }))
	h.reload(learning(false))
	eventually(t, "not heard", is(func() bool { return w.Hears(name) == "" }))
	h.reload(learning(true))
	eventually(t, "heard again", is(func() bool { return w.Hears(name) != "" }))
}
