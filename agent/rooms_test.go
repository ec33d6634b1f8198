package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/policy"
)

// roomConfig offers an ipvtap on u0 and lets addresses be learned.
func roomConfig() Config {
	cfg := testConfig()
	cfg.Policy.Networks = append(cfg.Policy.Networks, policy.Network{
		Name: "one", Uplinks: []string{"u0"}, At: policy.Pos{File: "vmnetd.yaml", Line: 20, Col: 5},
		Grant: policy.Grant{Modes: []vmnetd.Mode{vmnetd.L2}, IPs: policy.IPs{Given: true, Learn: true}},
	})
	cfg.Policy.Rules = append([]policy.Rule{{VM: []string{"ip*", "web*"}, Text: `vm: ["ip*", "web*"]`, At: policy.Pos{File: "vmnetd.yaml", Line: 21, Col: 5}}}, cfg.Policy.Rules...)
	return cfg
}

func ipvtapHost(t *testing.T) (*host, vmnetd.Attachment) {
	t.Helper()
	w := newWorld()
	w.StartVM("ip1")
	w.StartVM("ip2")
	h := newHost(t, w, roomConfig())
	h.start()
	return h, attach(t, h.agent, vmnetd.Request{VM: "ip1", Network: "one", IPs: []string{"192.0.2.11"}})
}

func (h *host) livesIn(ifname, home string) error {
	if got, ok := h.w.Homes()[ifname]; !ok || got != home {
		return fmt.Errorf("%s lives in %q (there: %v), not %q", ifname, got, ok, home)
	}
	return nil
}

func TestAnIpvtapLivesInVmnetdsNamespaceWithItsGuestsAddresses(t *testing.T) {
	h, att := ipvtapHost(t)
	if err := errors.Join(h.livesIn(att.Ifname, agenttest.OwnRoom), h.works("ip1", "net0")); err != nil {
		t.Fatal(err)
	}
	if att.MAC != uplinkMAC || att.Kind != vmnetd.Ipvtap || !slices.Equal(att.IPs, []string{"192.0.2.11"}) {
		t.Errorf("%+v", att)
	}
	s := h.w.Settled(att.Ifname)
	if !s.Guest || fmt.Sprint(s.IPs) != "[192.0.2.11/32]" {
		t.Errorf("settled as %+v", s)
	}
	g, ok := h.w.Guard(agenttest.OwnRoom, att.Ifname)
	if !ok || !g.Spoof || !g.Pin4 || fmt.Sprint(g.MACs) != "["+uplinkMAC+"]" {
		t.Errorf("guarded %v by %+v", ok, g)
	}
	detachAll(t, h, "ip1")
}

func TestAnIpvtapKeepsItsMTUWhenItsUplinksGrows(t *testing.T) {
	h, att := ipvtapHost(t)
	h.w.SetMTU("u0", 9000)
	eventually(t, "as before", is(func() bool { return h.w.Settled(att.Ifname).MTU == 1500 }))
	eventually(t, "sound", func() error {
		r, _ := h.agent.store.get(key{"ip1", "net0"})
		if !h.agent.sound(t.Context(), r) {
			return fmt.Errorf("%+v", r)
		}
		return h.works("ip1", "net0")
	})
}

func detachAll(t *testing.T, h *host, vm string) {
	t.Helper()
	if _, err := h.agent.Detach(t.Context(), Caller{}, vm, Selector{All: true}); err != nil {
		t.Error(err)
	}
	eventually(t, "all gone", func() error { return h.clean(vm) })
}

func TestARestartFindsIpvtapsWhereTheyLive(t *testing.T) {
	h, att := ipvtapHost(t)
	before := h.w.NICs("ip1")["net0"]
	h.halt()
	h.start()
	if err := errors.Join(h.livesIn(att.Ifname, agenttest.OwnRoom), h.works("ip1", "net0")); err != nil {
		t.Error(err)
	}
	if after := h.w.NICs("ip1")["net0"]; after != before {
		t.Errorf("the NIC was touched: %+v, %+v", before, after)
	}
	detachAll(t, h, "ip1")
}

func (h *host) loseState() {
	h.t.Helper()
	if err := os.Remove(h.dir + "/state.json"); err != nil {
		h.t.Fatal(err)
	}
}

func TestALostStateFileDoesNotCostAnIpvtap(t *testing.T) {
	h, att := ipvtapHost(t)
	h.halt()
	h.loseState()
	h.start()
	if err := errors.Join(h.livesIn(att.Ifname, agenttest.OwnRoom), h.works("ip1", "net0")); err != nil {
		t.Error(err)
	}
	if s, ips := h.w.Settled(att.Ifname), h.agent.List("ip1")[0].IPs; fmt.Sprint(s.IPs) != "[192.0.2.11/32]" || !slices.Equal(ips, []string{"192.0.2.11"}) {
		t.Errorf("settled as %+v, with %v", s, ips)
	}
	detachAll(t, h, "ip1")
}

func TestTheEndOfVmnetdsNamespaceIsRepaired(t *testing.T) {
	h, att := ipvtapHost(t)
	h.w.RemoveNetns(agenttest.OwnRoom)
	eventually(t, "repaired", func() error {
		return errors.Join(h.livesIn(att.Ifname, agenttest.OwnRoom), h.works("ip1", "net0"))
	})
	detachAll(t, h, "ip1")
}

func TestTheEndOfVmnetdsNamespaceIsRepairedWhereGuestsAreListenedTo(t *testing.T) {
	h, att := ipvtapHost(t)
	attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	eventually(t, "heard", is(func() bool { return h.w.Hears("ip1/net0") != "" && h.w.Hears("ip2/net0") != "" }))
	h.w.RemoveNetns(agenttest.OwnRoom)
	eventually(t, "repaired", func() error {
		return errors.Join(h.livesIn(att.Ifname, agenttest.OwnRoom), h.works("ip1", "net0"), h.works("ip2", "net0"))
	})
	eventually(t, "heard again", is(func() bool { return h.w.Hears("ip1/net0") != "" && h.w.Hears("ip2/net0") != "" }))
}

func TestAnIpvtapThatFailsAtAnyStepIsUndone(t *testing.T) {
	for _, p := range slices.Concat(steps("attach.", "converge.", "store."), failpoint.RoomPoints) {
		if p == failpoint.ConvergeMAC { // passthru's alone
			continue
		}
		t.Run(string(p), func(t *testing.T) {
			w := newWorld()
			w.StartVM("ip1")
			h := newHost(t, w, roomConfig())
			var err error
			if h.fp, err = failpoint.Parse(string(p) + "=1*error"); err != nil {
				t.Fatal(err)
			}
			h.start()
			req := vmnetd.Request{VM: "ip1", Network: "one", IPs: []string{"192.0.2.11"}}
			if _, err := h.agent.Attach(t.Context(), Caller{}, req); !contains(err, string(p)) {
				t.Errorf("attach: %v", err)
			}
			if err := h.clean("ip1"); err != nil {
				t.Error(err)
			}
			attach(t, h.agent, req)
		})
	}
}

func TestAnEndpointThatFailsAtAnyStepIsUndone(t *testing.T) {
	for _, p := range slices.Concat(steps("attach.", "converge.", "store."), failpoint.RoomPoints) {
		if p == failpoint.ConvergeMAC || p == failpoint.ConvergeGuarded { // passthru's alone; nothing filters a macvlan in there
			continue
		}
		t.Run(string(p), func(t *testing.T) {
			w := newWorld()
			w.AddNetns("/run/netns/web1")
			h := newHost(t, w, roomConfig())
			var err error
			if h.fp, err = failpoint.Parse(string(p) + "=1*error"); err != nil {
				t.Fatal(err)
			}
			h.start()
			req := vmnetd.Request{VM: "web1", Network: "lan", Via: "netns:/run/netns/web1"}
			if _, err := h.agent.Attach(t.Context(), Caller{}, req); !contains(err, string(p)) {
				t.Errorf("attach: %v", err)
			}
			if err := h.clean("web1"); err != nil {
				t.Error(err)
			}
			attach(t, h.agent, req)
		})
	}
}

func TestAnotherNamespaceIsNoLaterRunOfAnAttachment(t *testing.T) {
	w := newWorld()
	w.StartVM("web1")
	w.AddNetns("/run/netns/web1")
	w.AddNetns("/run/netns/web2")
	h := newHost(t, w, roomConfig())
	a := h.start()
	nic := attach(t, a, vmnetd.Request{VM: "web1", Network: "lan", ID: "net5"})
	first := attach(t, a, vmnetd.Request{VM: "web1", Network: "lan", Via: "netns:/run/netns/web1", ID: "net0"})
	other := vmnetd.Request{VM: "web1", Network: "lan", Via: "netns:/run/netns/web2", ID: "net0"}
	if _, err := a.Attach(t.Context(), Caller{}, other); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("the same id in another namespace: %v", err)
	}
	other.ID = "net1"
	attach(t, a, other)
	if err := errors.Join(h.livesIn(first.Ifname, "/run/netns/web1"), h.works("web1", nic.ID)); err != nil {
		t.Error(err)
	}
	if n := len(a.List("web1")); n != 3 {
		t.Errorf("%d are left of 3", n)
	}
}

// killedAnywhere kills the daemon before and after each call of an attach, starts
// it again, and looks.
func killedAnywhere(t *testing.T, req vmnetd.Request, well func(h *host) error) {
	t.Helper()
	for k := 1; ; k++ {
		for _, after := range []bool{false, true} {
			w := newWorld()
			w.StartVM("ip1")
			w.AddNetns("/run/netns/web1")
			h := newHost(t, w, roomConfig())
			h.start()
			died := make(chan struct{})
			w.DieAt(k, after, func() { close(died) })
			_, _ = h.agent.Attach(t.Context(), Caller{}, req)
			select {
			case <-died:
			default:
				if k < 10 {
					t.Fatalf("an attach makes only %d calls", k)
				}
				return // every call was the last one once
			}
			h.halt()
			w.Revive()
			h.start()
			eventually(t, fmt.Sprintf("call %d (after: %v)", k, after), func() error {
				if len(h.agent.List(req.VM)) == 0 {
					return h.clean(req.VM)
				}
				return well(h)
			})
			h.halt()
		}
	}
}

func TestAnIpvtapKilledAtAnyCallIsFinishedByTheNextStart(t *testing.T) {
	killedAnywhere(t, vmnetd.Request{VM: "ip1", Network: "one", ID: "net0", IPs: []string{"192.0.2.11"}}, func(h *host) error {
		return h.works("ip1", "net0")
	})
}

func TestAnEndpointKilledAtAnyCallIsFinishedByTheNextStart(t *testing.T) {
	req := vmnetd.Request{VM: "web1", Network: "lan", ID: "net0", Via: "netns:/run/netns/web1", IPs: []string{"192.0.2.30/24"}}
	killedAnywhere(t, req, func(h *host) error {
		att := h.agent.List("web1")[0]
		if s := h.w.Settled(att.Ifname); att.Phase != vmnetd.Attached || att.Problem != "" || s.Name != "eth0" {
			return fmt.Errorf("%+v, settled %+v", att, s)
		}
		return h.livesIn(att.Ifname, "/run/netns/web1")
	})
}

func TestAClaimKilledAtAnyCallIsFinishedByTheNextStart(t *testing.T) {
	for k := 1; ; k++ {
		for _, after := range []bool{false, true} {
			h := newHost(t, newWorld(), roomConfig())
			h.start()
			att, token := offered(t, h, vmnetd.Request{VM: "ip3", Network: "one", Via: "exec", IPs: []string{"192.0.2.13"}})
			owner := sleeper(t).Process.Pid
			done, err := claim(t, h, token, owner)
			if err != nil {
				t.Fatal(err)
			}
			h.w.Hold(owner, att.Ifindex)
			died := make(chan struct{})
			var back func()
			h.w.DieAt(k, after, func() { back = h.noDisk(); close(died) })
			_, _ = done(nil)
			select {
			case <-died:
			default:
				if k < 5 {
					t.Fatalf("a claim makes only %d calls", k)
				}
				return
			}
			h.halt()
			back()
			h.w.Revive()
			h.start()
			eventually(t, fmt.Sprintf("call %d (after: %v)", k, after), func() error {
				list := h.agent.List("ip3")
				if len(list) == 0 {
					return h.clean("ip3")
				}
				if list[0].Phase != vmnetd.Attached || list[0].Problem != "" {
					return fmt.Errorf("%+v", list)
				}
				return h.livesIn(att.Ifname, agenttest.OwnRoom)
			})
			h.halt()
		}
	}
}

func TestOfManyThatAskForOneAddressAtOnceOneGetsIt(t *testing.T) {
	const many = 8
	w := newWorld()
	for i := range many {
		w.StartVM(fmt.Sprintf("vm%d", i))
	}
	h := newHost(t, w, testConfig())
	h.start()
	for n := range 20 {
		var got atomic.Int32
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				_, err := h.agent.Attach(t.Context(), Caller{}, vmnetd.Request{VM: fmt.Sprintf("vm%d", i), IPs: []string{fmt.Sprintf("192.0.2.%d", n+1)}})
				switch {
				case err == nil:
					got.Add(1)
				case !errors.Is(err, vmnetd.ErrBusy):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d got it", got.Load())
		}
	}
}

func TestAnAddressThatIsTakenIsRefusedWithItsHolder(t *testing.T) {
	h, _ := ipvtapHost(t)
	_, err := h.agent.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "ip2", Network: "one", IPs: []string{"192.0.2.11"}})
	if !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "ip1/net0") {
		t.Errorf("%v", err)
	}
	if got := h.agent.List("ip2"); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

func TestAddressesAreLearnedUsedAndReleased(t *testing.T) {
	h, _ := ipvtapHost(t)
	att := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	eventually(t, "heard", is(func() bool { return h.w.Hears("ip2/net0") != "" }))
	ip := netip.MustParseAddr("192.0.2.22")
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: ip, How: learn.ByLease, Until: time.Now().Add(time.Hour)})
	eventually(t, "in use", func() error {
		list := h.agent.List("ip2")
		if s := h.w.Settled(att.Ifname); len(list) != 1 || !slices.Equal(list[0].Learned, []string{"192.0.2.22"}) || fmt.Sprint(s.IPs) != "[192.0.2.22/32]" {
			return fmt.Errorf("%+v, settled %+v", list, s)
		}
		if g, _ := h.w.Guard(agenttest.OwnRoom, att.Ifname); !g.Pin4 || g.Pin6 || !g.Learn || fmt.Sprint(g.IPs) != "[192.0.2.22/32]" {
			return fmt.Errorf("guarded by %+v", g)
		}
		return nil
	})
	h.halt()
	h.start()
	eventually(t, "heard after a restart", is(func() bool { return h.w.Hears("ip2/net0") != "" }))
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: ip, Gone: true, Why: "its lease has ended"})
	eventually(t, "released", is(func() bool { return len(h.w.Settled(att.Ifname).IPs) == 0 && len(h.agent.List("ip2")[0].IPs) == 0 }))
}

func TestAQueueOwnersAddressesAreLearnedOnAfterARestart(t *testing.T) {
	h, _ := ipvtapHost(t)
	att, token := offered(t, h, vmnetd.Request{VM: "ip3", Network: "one"})
	owner := sleeper(t)
	done, err := claim(t, h, token, owner.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h.w.Hold(owner.Process.Pid, att.Ifindex)
	if _, err := done(nil); err != nil || h.w.Hears("ip3/net0") == "" {
		t.Fatalf("%v, heard: %v", err, h.w.Hears("ip3/net0"))
	}
	h.halt()
	h.start()
	eventually(t, "heard after a restart", is(func() bool { return h.w.Hears("ip3/net0") != "" }))
	h.w.Hear(learn.Event{Key: "ip3/net0", IP: netip.MustParseAddr("192.0.2.23"), How: learn.ByARP})
	eventually(t, "in use", is(func() bool { return len(h.w.Settled(att.Ifname).IPs) == 1 }))
}

func TestAnAddressThatIsToldAgainIsNoNews(t *testing.T) {
	h, _ := ipvtapHost(t)
	attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	told := h.subscribe()
	first, second := netip.MustParseAddr("192.0.2.22"), netip.MustParseAddr("fe80::22")
	for n := range 3 {
		h.w.Hear(learn.Event{Key: "ip2/net0", IP: first, How: learn.ByLease, Until: time.Now().Add(time.Duration(n+1) * time.Hour)})
		h.w.Hear(learn.Event{Key: "ip2/net0", IP: second, How: learn.ByND})
	}
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("192.0.2.23"), How: learn.ByARP})
	eventually(t, "told", is(func() bool { return told.count("address") >= 3 }))
	if n := told.count("address"); n != 3 {
		t.Errorf("told %d times", n)
	}
}

func TestAnAddressOfAnotherIsNotLearned(t *testing.T) {
	h, _ := ipvtapHost(t)
	att := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	told := h.subscribe()
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("192.0.2.11"), How: learn.ByARP})
	eventually(t, "told", is(func() bool { return told.count("address-refused") == 1 }))
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("192.0.2.11"), How: learn.ByARP, Defended: true}) // who answers is known
	local := netip.MustParseAddr("fe80::1")
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: local, How: learn.ByDAD})
	eventually(t, "in use", is(func() bool { return len(h.w.Settled(att.Ifname).IPs) == 1 }))
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: local, How: learn.ByDAD, Defended: true})
	eventually(t, "told and given up", is(func() bool {
		return told.count("address-refused") == 2 && len(h.w.Settled(att.Ifname).IPs) == 0
	}))
	list := h.agent.List("ip2")
	if len(list[0].IPs) != 0 || len(h.w.Settled(att.Ifname).IPs) != 0 || !strings.Contains(list[0].Problem, "share the MAC") {
		t.Errorf("%+v", list)
	}
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("192.0.2.22"), How: learn.ByARP})
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("fe80::2"), How: learn.ByDAD})
	eventually(t, "no problem with another address", is(func() bool {
		list := h.agent.List("ip2")
		return len(list[0].IPs) == 2 && list[0].Problem == ""
	}))
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("192.0.2.11"), How: learn.ByOffer})
	eventually(t, "explained", is(func() bool { return strings.Contains(h.agent.List("ip2")[0].Problem, "client identifier") }))
}

func TestWhatPolicyGivesWinsOverAClaim(t *testing.T) {
	h, _ := ipvtapHost(t)
	att := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	ip := netip.MustParseAddr("192.0.2.33")
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: ip, How: learn.ByARP})
	eventually(t, "claimed", is(func() bool { return len(h.w.Settled(att.Ifname).IPs) == 1 }))
	h.w.StartVM("ip3")
	owner := attach(t, h.agent, vmnetd.Request{VM: "ip3", Network: "one", IPs: []string{ip.String()}})
	if s := h.w.Settled(owner.Ifname); len(s.IPs) != 1 {
		t.Errorf("its owner has %v", s.IPs)
	}
	if s := h.w.Settled(att.Ifname); len(s.IPs) != 0 || len(h.agent.List("ip2")[0].IPs) != 0 {
		t.Errorf("who claimed it still has %v", s.IPs)
	}
}

func TestWhatADHCPServerGivesWinsOverAClaim(t *testing.T) {
	h, _ := ipvtapHost(t)
	claims := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	h.w.StartVM("ip3")
	leases := attach(t, h.agent, vmnetd.Request{VM: "ip3", Network: "one"})
	ip := netip.MustParseAddr("192.0.2.33")
	has := func(att vmnetd.Attachment) bool { return len(h.w.Settled(att.Ifname).IPs) == 1 }
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: ip, How: learn.ByOffer})
	eventually(t, "claimed", is(func() bool { return has(claims) }))
	lease := learn.Event{Key: "ip3/net0", IP: ip, How: learn.ByLease, Until: time.Now().Add(time.Hour)}
	h.w.Hear(lease)
	eventually(t, "given to who has the lease", is(func() bool { return has(leases) && !has(claims) }))
	other := netip.MustParseAddr("192.0.2.34")
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: other, How: learn.ByARP})
	eventually(t, "claims another", is(func() bool { return has(claims) }))
	turnOf(t, h.agent, "ip3", func(ctx context.Context) { // its network does not give that one
		k := key{"ip3", "net0"}
		r, _ := h.agent.store.get(k)
		r.Terms.Within = []netip.Prefix{netip.PrefixFrom(ip, 32)}
		h.agent.store.note(r)
		h.agent.learned(ctx, k, learn.Event{IP: other, How: learn.ByLease, Until: lease.Until})
	})
	if !has(claims) {
		t.Error("what a guest cannot have is taken from another one all the same")
	}
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: other, How: learn.ByARP, Gone: true})
	eventually(t, "claims nothing", is(func() bool { return !has(claims) }))
	told := h.subscribe()
	lease.Key = "ip2/net0" // the server takes both for one client
	h.w.Hear(lease)
	eventually(t, "refused", is(func() bool { return told.count("address-refused") == 1 }))
	if !has(leases) || has(claims) {
		t.Error("a lease is taken away by another one")
	}
}

func TestALeaseThatHadToWaitForWhoClaimsItIsTakenWhenThatOneHasLetGo(t *testing.T) {
	h, _ := ipvtapHost(t)
	claims := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	h.w.StartVM("ip3")
	leases := attach(t, h.agent, vmnetd.Request{VM: "ip3", Network: "one"})
	ip := netip.MustParseAddr("192.0.2.33")
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: ip, How: learn.ByARP})
	eventually(t, "claimed", is(func() bool { return len(h.w.Settled(claims.Ifname).IPs) == 1 }))
	busy, told := make(chan struct{}), h.subscribe()
	h.agent.turns.do("ip2", func(context.Context) { <-busy })
	h.w.Hear(learn.Event{Key: "ip3/net0", IP: ip, How: learn.ByLease, Until: time.Now().Add(time.Hour)})
	eventually(t, "refused meanwhile", is(func() bool { return told.count("address-refused") == 1 }))
	close(busy)
	eventually(t, "in use", is(func() bool {
		return len(h.w.Settled(claims.Ifname).IPs) == 0 && fmt.Sprint(h.w.Settled(leases.Ifname).IPs) == "[192.0.2.33/32]"
	}))
	if p := h.agent.List("ip3")[0].Problem; p != "" {
		t.Errorf("its problem stays: %s", p)
	}
}

func TestTheEndOfALeaseCountsWhateverElseIsHeard(t *testing.T) {
	h, _ := ipvtapHost(t)
	att := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	ip := netip.MustParseAddr("192.0.2.33")
	k := key{"ip2", "net0"}
	turnOf(t, h.agent, "ip2", func(ctx context.Context) {
		h.agent.learned(ctx, k, learn.Event{IP: ip, How: learn.ByLease, Until: time.Now().Add(time.Hour)})
		for h.agent.ears.paces(k, time.Now()) { // as many claims do
		}
		h.agent.learned(ctx, k, learn.Event{IP: ip, How: learn.ByLease, Gone: true, Why: "its lease has ended"})
	})
	if s := h.w.Settled(att.Ifname); len(s.IPs) != 0 || len(h.agent.List("ip2")[0].IPs) != 0 {
		t.Errorf("settled as %+v", s)
	}
}

func TestTheEndOfALeaseCountsWhileItsNICIsInTrouble(t *testing.T) {
	h, _ := ipvtapHost(t)
	attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	k, ip := key{"ip2", "net0"}, netip.MustParseAddr("192.0.2.33")
	turnOf(t, h.agent, "ip2", func(ctx context.Context) {
		r, _ := h.agent.store.get(k)
		r.Heard = []heard{{IP: ip, How: learn.ByLease}}
		r.Phase = vmnetd.Broken
		if err := h.agent.store.put(r); err != nil {
			t.Error(err)
		}
		calls := h.w.Calls()
		h.agent.learned(ctx, k, learn.Event{IP: ip, How: learn.ByLease, Gone: true})
		if r, _ := h.agent.store.get(k); len(r.Heard) != 0 || h.w.Calls() != calls {
			t.Errorf("%+v, after %d calls", r.Heard, h.w.Calls()-calls)
		}
	})
}

func TestRefusedClaimsAreToldAtAPace(t *testing.T) {
	h, _ := ipvtapHost(t)
	attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	h.w.StartVM("ip3")
	attach(t, h.agent, vmnetd.Request{VM: "ip3", Network: "one", IPs: []string{"192.0.2.13"}})
	turnOf(t, h.agent, "ip2", func(ctx context.Context) {
		told, began := h.subscribe(), time.Now()
		for i := range 10 * newsAtOnce {
			ip := "192.0.2.11"
			if i%2 == 0 {
				ip = "192.0.2.13"
			}
			h.agent.learned(ctx, key{"ip2", "net0"}, learn.Event{IP: netip.MustParseAddr(ip), How: learn.ByARP})
		}
		if n := told.count("address-refused"); n > newsAtOnce+1+int(time.Since(began)/time.Second) {
			t.Errorf("told %d times", n)
		}
	})
}

func TestALearnedAddressThatCouldNotBeSettledIsTriedAgain(t *testing.T) {
	h, _ := ipvtapHost(t)
	att := attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	h.w.Refuse("Settle", 1)
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("192.0.2.33"), How: learn.ByARP})
	eventually(t, "settled", func() error {
		if s := h.w.Settled(att.Ifname); len(s.IPs) != 1 {
			return fmt.Errorf("%+v", s)
		}
		return h.works("ip2", "net0")
	})
}

func TestAClaimMakesNoRouteOfTheHosts(t *testing.T) {
	h, _ := ipvtapHost(t)
	attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one"})
	if _, err := h.agent.HostLink(t.Context(), Caller{}, vmnetd.HostLinkRequest{Network: "one", IPs: []string{"192.0.2.18/24"}}); err != nil {
		t.Fatal(err)
	}
	h.w.Hear(learn.Event{Key: "ip2/net0", IP: netip.MustParseAddr("9.9.9.9"), How: learn.ByARP})
	eventually(t, "told to the link as a claim", is(func() bool {
		l := h.w.HostLinks()["one"]
		return len(l.Claimed) == 1 && len(l.Guests) == 1
	}))
	h.w.StartVM("ip3")
	if _, err := h.agent.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "ip3", Network: "one", IPs: []string{"192.0.2.18"}}); !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "host-link one") {
		t.Errorf("the link's own address: %v", err)
	}
}

func TestAnEndpointLivesInItsNamespaceAndGoesWithIt(t *testing.T) {
	w := newWorld()
	h := newHost(t, w, roomConfig())
	a := h.start()
	req := vmnetd.Request{VM: "web1", Network: "lan", Via: "netns:/run/netns/web1", IPs: []string{"192.0.2.30/24"}, Routes: []string{"default via 192.0.2.1"}}
	if _, err := a.Attach(t.Context(), Caller{}, req); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("without the namespace: %v", err)
	}
	w.AddNetns("/run/netns/web1")
	att := attach(t, a, req)
	if att.Kind != vmnetd.Macvlan || att.Name != "eth0" || att.Via != req.Via || att.Phase != vmnetd.Attached || !slices.Equal(att.IPs, []string{"192.0.2.30/24"}) {
		t.Errorf("%+v", att)
	}
	s := h.w.Settled(att.Ifname)
	if s.Guest || s.Name != "eth0" || s.MAC.String() != att.MAC || len(s.Routes) != 1 {
		t.Errorf("settled as %+v", s)
	}
	if again := attach(t, a, req); again.Changed {
		t.Errorf("the same again: %+v", again)
	}
	req.ID = "net0"
	for _, routes := range [][]string{{"default via 192.0.2.2"}, {"default via 192.0.2.1", "198.51.100.0/24"}} {
		other := req
		other.Routes = routes
		if _, err := a.Attach(t.Context(), Caller{}, other); !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "routes") {
			t.Errorf("%v: %v", routes, err)
		}
	}
	if again := attach(t, a, req); again.Changed {
		t.Errorf("the same by its id: %+v", again)
	}
	a.markStale(t.Context(), key{"web1", "net0"})
	if now := a.List("web1")[0]; now.Problem != "" {
		t.Errorf("a reload finds something to wait for: %s", now.Problem)
	}
	h.halt()
	a = h.start()
	if err := h.livesIn(att.Ifname, "/run/netns/web1"); err != nil {
		t.Error(err)
	}
	w.RemoveNetns("/run/netns/web1", "web1")
	eventually(t, "gone with it", func() error { return h.clean("web1") })
	w.AddNetns("/run/netns/web1")
	attach(t, a, req)
	detachAll(t, h, "web1")
}

func TestAnEndpointWhosePathIsTheHostsOwnNowHasGone(t *testing.T) {
	const path = "/proc/1234/ns/net" // its process has ended, and one of the host has the number
	for _, c := range []struct {
		what string
		ends func(t *testing.T, h *host)
	}{
		{"noticed", func(_ *testing.T, h *host) {
			h.halt()
			h.w.OwnNetns(path)
			h.start()
		}},
		{"detached", func(t *testing.T, h *host) {
			h.w.OwnNetns(path)
			detachAll(t, h, "web1")
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld()
			w.AddNetns(path)
			h := newHost(t, w, roomConfig())
			att := attach(t, h.start(), vmnetd.Request{VM: "web1", Network: "lan", Via: viaNetns + path, IPs: []string{"192.0.2.30/24"}})
			w.DeleteDevice(att.Ifname) // with its namespace
			c.ends(t, h)
			eventually(t, "gone", func() error { return h.clean("web1") })
		})
	}
}

func TestTheNextNamespaceWithTheNumberAndTheInodeIsAnotherOne(t *testing.T) {
	const path = "/run/netns/web1"
	req := vmnetd.Request{VM: "web1", ID: "net0", Network: "lan", Via: viaNetns + path, IPs: []string{"192.0.2.30/24"}}
	w := newWorld()
	w.CountNetns()
	w.AddNetns(path)
	h := newHost(t, w, roomConfig())
	att := attach(t, h.start(), req)
	h.halt()
	h.start()
	if again := attach(t, h.agent, req); again.Changed || again.Ifindex != att.Ifindex {
		t.Errorf("the same one after a restart: %+v", again)
	}
	next := func() {
		w.RemoveNetns(path)
		w.AddNetns(path)
	}
	h.halt()
	next()
	h.start()
	eventually(t, "gone", func() error { return h.clean("web1") })
	attach(t, h.agent, req)
	next()
	if again := attach(t, h.agent, req); !again.Changed {
		t.Errorf("nothing is done for the next one: %+v", again)
	}
	if err := h.livesIn(att.Ifname, path); err != nil {
		t.Error(err)
	}
	detachAll(t, h, "web1")
}

// TestANamespaceThatComesAtThePathMeanwhileGetsNothing puts another namespace at the
// path between each two looks at it.
func TestANamespaceThatComesAtThePathMeanwhileGetsNothing(t *testing.T) {
	const path = "/run/netns/web1"
	for n := 1; ; n++ {
		w := newWorld()
		w.AddNetns(path)
		h := newHost(t, w, roomConfig())
		a := h.start()
		reached, swapped := 0, false
		w.At("At", n, func() error {
			if reached++; reached == n {
				swapped = true
				w.RemoveNetns(path)
				w.AddNetns(path)
			}
			return nil
		})
		_, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "web1", Network: "lan", Via: viaNetns + path, IPs: []string{"192.0.2.30/24"}})
		if !swapped {
			if n == 1 || err != nil {
				t.Fatalf("reached %d times: %v", n-1, err)
			}
			return
		}
		if !contains(err, "another network namespace") {
			t.Errorf("swapped before look %d: %v", n, err)
		}
		for name, home := range w.Homes() {
			if home == path {
				t.Errorf("swapped before look %d: the other one has %s", n, name)
			}
		}
		h.halt()
	}
}

func TestFiltersThatOthersRemovedComeBack(t *testing.T) {
	h, _ := attachedHost(t)
	att := h.agent.List("vm1")[0]
	if _, ok := h.w.Guard("", att.Ifname); !ok {
		t.Fatal("no filter")
	}
	told := h.subscribe()
	h.w.FlushFilters()
	eventually(t, "back", func() error {
		if g, ok := h.w.Guard("", att.Ifname); !ok || !g.Spoof || told.count("filter-restored") != 1 {
			return fmt.Errorf("%v %+v", ok, g)
		}
		return nil
	})
	detachAll(t, h, "vm1")
	if _, ok := h.w.Guard("", att.Ifname); ok {
		t.Error("the filter outlives its NIC")
	}
}

func TestADeviceThatSomebodyRenamedIsPutRight(t *testing.T) {
	h, a := attachedHost(t)
	att := a.List("vm1")[0]
	told := h.subscribe()
	h.w.RenameDevice(att.Ifname, "mine")
	eventually(t, "its name is back", func() error {
		if now := a.List("vm1")[0]; told.count("renamed") != 1 || now.Ifindex != att.Ifindex {
			return fmt.Errorf("%+v", now)
		}
		return h.works("vm1", "net0")
	})
	if told.count("broken") != 0 {
		t.Error("the guest lost its NIC")
	}
}

func TestNewRulesAboutWhatAGuestMaySendCountAtOnce(t *testing.T) {
	h, a := attachedHost(t)
	att := a.List("vm1")[0]
	no := false
	cfg := testConfig()
	for i := range cfg.Policy.Networks {
		cfg.Policy.Networks[i].Grant.Filter.RA = &no
		cfg.Policy.Networks[i].Grant.Bandwidth.Out.Bits = 1e9
	}
	h.cfg.next = cfg
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "in force", func() error {
		if g, _ := h.w.Guard("", att.Ifname); g.RA || !g.DHCPServer || g.Out.Bits != 1e9 {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if now := a.List("vm1")[0]; now.Problem != "" || now.Ifindex != att.Ifindex {
		t.Errorf("%+v", now)
	}
}

func TestAHostLinkIsMadeKeptAndRemoved(t *testing.T) {
	h, _ := ipvtapHost(t)
	req := vmnetd.HostLinkRequest{Network: "one", IPs: []string{"192.0.2.18/24"}}
	l, err := h.agent.HostLink(t.Context(), Caller{}, req)
	if err != nil || !l.Changed || l.Kind != vmnetd.Ipvlan || l.Mode != vmnetd.L2 || !slices.Equal(l.Guests, []string{"192.0.2.11"}) {
		t.Fatalf("%+v, %v", l, err)
	}
	if again, err := h.agent.HostLink(t.Context(), Caller{}, req); err != nil || again.Changed {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	h.halt()
	h.start()
	eventually(t, "kept", is(func() bool { return len(h.w.HostLinks()["one"].IPs) == 1 && len(h.agent.HostLinks()) == 1 }))
	attach(t, h.agent, vmnetd.Request{VM: "ip2", Network: "one", IPs: []string{"192.0.2.12"}})
	eventually(t, "the new guest is reached", is(func() bool { return len(h.w.HostLinks()["one"].Guests) == 2 }))
	for range 2 {
		if _, err := h.agent.HostLink(t.Context(), Caller{}, vmnetd.HostLinkRequest{Network: "one", Remove: true}); err != nil {
			t.Error(err)
		}
	}
	if len(h.w.HostLinks()) != 0 || len(h.agent.HostLinks()) != 0 {
		t.Errorf("left: %+v", h.w.HostLinks())
	}
}

func TestAHostLinkThatCannotBeHadLeavesNothing(t *testing.T) {
	h, _ := ipvtapHost(t)
	for _, c := range []struct {
		req  vmnetd.HostLinkRequest
		want error
		say  string
	}{
		{vmnetd.HostLinkRequest{Network: "nil", IPs: []string{"192.0.2.18/24"}}, vmnetd.ErrNotFound, "no network"},
		{vmnetd.HostLinkRequest{Network: "one"}, vmnetd.ErrInvalid, "address of its own"},
		{vmnetd.HostLinkRequest{Network: "one", IPs: []string{"192.0.2.18"}}, vmnetd.ErrInvalid, "length"},
		{vmnetd.HostLinkRequest{Network: "one", IPs: []string{"192.0.2.11/24"}}, vmnetd.ErrBusy, "ip1/net0"},
		{vmnetd.HostLinkRequest{Network: "one", Uplink: "u9", IPs: []string{"192.0.2.18/24"}}, vmnetd.ErrInvalid, "u9"},
	} {
		if _, err := h.agent.HostLink(t.Context(), Caller{}, c.req); !errors.Is(err, c.want) || !contains(err, c.say) {
			t.Errorf("%+v: %v", c.req, err)
		}
	}
	h.w.Refuse("HostLink", 1)
	if _, err := h.agent.HostLink(t.Context(), Caller{}, vmnetd.HostLinkRequest{Network: "one", IPs: []string{"192.0.2.18/24"}}); err == nil || len(h.agent.HostLinks()) != 0 {
		t.Errorf("%v, %+v", err, h.agent.HostLinks())
	}
}
