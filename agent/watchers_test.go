package agent

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/learn"
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
	w.Hear(learn.Event{Key: name, IP: netip.MustParseAddr("192.0.2.22"), How: learn.ByLease})
	pinned := func() bool { g, _ := w.Guard("", att.Ifname); return g.Pin4 }
	eventually(t, "learned", is(pinned))
	h.reload(learning(false))
	eventually(t, "not heard", is(func() bool { return w.Hears(name) == "" }))
	eventually(t, "what was learned is gone", is(func() bool { return len(a.List("vm1")[0].Learned) == 0 && !pinned() }))
	h.reload(learning(true))
	eventually(t, "heard again", is(func() bool { return w.Hears(name) != "" }))
}

func TestWhatWasLearnedGoesWithWhereItMayLie(t *testing.T) {
	learning := func(ips policy.IPs) Config {
		cfg := roomConfig()
		for i := range cfg.Policy.Networks {
			cfg.Policy.Networks[i].Grant.IPs = ips
		}
		return cfg
	}
	h, _ := ipvtapHost(t)
	att := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	in, out := netip.MustParseAddr("192.0.2.22"), netip.MustParseAddr("198.51.100.22")
	for _, ip := range []netip.Addr{in, out} {
		h.w.Hear(learn.Event{Key: "ip2/net0", IP: ip, How: learn.ByLease})
	}
	settled := func(want string) func() error {
		return func() error {
			list, s := h.agent.List("ip2"), h.w.Settled(att.Ifname)
			if fmt.Sprint(s.IPs) != want || len(list[0].Learned) != len(s.IPs) {
				return fmt.Errorf("%+v, %+v", s, list)
			}
			return nil
		}
	}
	eventually(t, "learned", settled("[192.0.2.22/32 198.51.100.22/32]"))
	h.reload(learning(policy.IPs{Given: true, Learn: true, Within: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}))
	eventually(t, "only what lies within", settled("[192.0.2.22/32]"))
}

func TestAReloadLeavesTheAddressesOfAnAdoptedDeviceOfWhichRulesSayNothing(t *testing.T) {
	h, att := ipvtapHost(t)
	k := key{"ip1", "net0"}
	turnOf(t, h.agent, "ip1", func(context.Context) {
		r, _ := h.agent.store.get(k)
		r.Terms.IPs, r.Terms.Learn = nil, false
		r.Heard = []heard{{IP: netip.MustParseAddr("192.0.2.11"), How: "its device"}}
		if err := h.agent.store.put(r); err != nil {
			t.Error(err)
		}
	})
	cfg := roomConfig()
	for i := range cfg.Policy.Networks {
		cfg.Policy.Networks[i].Grant.MaxIPs = 7
		cfg.Policy.Networks[i].Grant.IPs = policy.IPs{Given: true}
	}
	h.reload(cfg)
	reconciled(t, h.agent, "ip1")
	if s := h.w.Settled(att.Ifname); fmt.Sprint(s.IPs) != "[192.0.2.11/32]" {
		t.Errorf("settled as %+v", s)
	}
}

func TestAGuestWithoutAnAddressSendsFromWhereItMayHaveOneAlone(t *testing.T) {
	within := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25"), netip.MustParsePrefix("2001:db8::/64")}
	r := record{Attachment: vmnetd.Attachment{VM: "a", ID: "net0", MAC: "52:54:00:00:00:01", Kind: vmnetd.Macvtap, Mode: vmnetd.Bridge}}
	r.Terms = terms{Learn: true, Within: within, Filter: policy.Filtered{Spoof: true}}
	for want, list := range map[string][]string{
		"[192.0.2.0/25 2001:db8::/64 fe80::/10]":     nil,
		"[192.0.2.9/32 2001:db8::/64 fe80::/10]":     {"192.0.2.9"},
		"[192.0.2.9/32 fe80::1/128]":                 {"192.0.2.9", "fe80::1"},
		"[fe80::1/128 2001:db8::9/128 192.0.2.0/25]": {"fe80::1", "2001:db8::9"},
	} {
		r.Heard = nil
		for _, text := range list {
			r.Heard = append(r.Heard, heard{IP: netip.MustParseAddr(text)})
		}
		s, err := r.guard("vmn0")
		if err != nil || fmt.Sprint(s.IPs) != want || !s.Pin4 || !s.Pin6 {
			t.Errorf("%v: %+v, %v", list, s, err)
		}
	}
	if len(r.Terms.Within) != 2 || r.Terms.gives(netip.MustParseAddr("169.254.169.254")) || !r.Terms.gives(netip.MustParseAddr("fe80::9")) {
		t.Errorf("%+v", r.Terms)
	}
}

func TestNewRulesLeaveWhatTheRootOfANamespaceHasToItself(t *testing.T) {
	h := newHost(t, newWorld(), roomConfig())
	h.start()
	h.w.AddNetns("/run/netns/web1")
	attach(t, h.agent, vmnetd.Request{VM: "web1", Network: "lan", Via: "netns:/run/netns/web1", IPs: []string{"192.0.2.30/24"}})
	settled := 0
	h.w.At("Settle", 1000, func() error { settled++; return nil })
	cfg := roomConfig()
	for i := range cfg.Policy.Networks {
		cfg.Policy.Networks[i].Grant.MaxIPs = 7
	}
	h.reload(cfg)
	reconciled(t, h.agent, "web1")
	if r, _ := h.agent.store.get(key{"web1", "net0"}); settled != 0 || r.Terms.MaxIPs != 7 {
		t.Errorf("settled %d times, %+v", settled, r.Terms)
	}
}
