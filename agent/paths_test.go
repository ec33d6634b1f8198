package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/learn"
)

// attachedHost has vm1/net0 on u0.
func attachedHost(t *testing.T) (*host, *Agent) {
	t.Helper()
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"}); err != nil {
		t.Fatal(err)
	}
	return h, a
}

// is makes a condition of what is true or not yet.
func is(it func() bool) func() error {
	return func() error {
		if !it() {
			return errors.New("not yet")
		}
		return nil
	}
}

// path is how an uplink was last seen to reach the outside.
func (a *Agent) path(name string) string {
	a.paths.mu.Lock()
	defer a.paths.mu.Unlock()
	return a.paths.known[name].Text
}

func count(list []string, what string) int {
	n := 0
	for _, one := range list {
		if one == what {
			n++
		}
	}
	return n
}

func TestGuestIsAnnouncedAfterAttachAndForgottenAfterDetach(t *testing.T) {
	h, a := attachedHost(t)
	if got := h.w.Announced(); !slices.Contains(got, "vm1/net0 vm1/net0") {
		t.Errorf("after the attach: %q", got)
	}
	mac := a.List("vm1")[0].MAC
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{}); err != nil {
		t.Fatal(err)
	}
	got := h.w.Announced()
	if !slices.Contains(got, "not vm1/net0 "+mac) || !slices.Contains(got, "not u0 "+mac) {
		t.Errorf("after the detach: %q", got)
	}
}

func TestGuestsAreAnnouncedWhenTheirUplinkCarriesAgain(t *testing.T) {
	h, a := attachedHost(t)
	seen := h.subscribe()
	h.w.SetCarrier("u0", false)
	h.w.SetCarrier("u1", false) // nobody is on it
	eventually(t, "the loss is seen", is(func() bool { return a.path("u0") == "" }))
	h.w.SetCarrier("u0", true)
	h.w.SetCarrier("u1", true)
	eventually(t, "the guest is announced once", is(func() bool { return count(h.w.Announced(), "u0 vm1/net0") == 1 }))
	eventually(t, "it is told", is(func() bool { return seen.count("failover") > 0 }))
	waitUplink(t, a, func(u vmnetd.UplinkState) bool { return u.Announced != nil && u.Announced.Guests == 1 })
}

func TestGuestThatFollowsItsUplinkSeesItsLink(t *testing.T) {
	h, a := attachedHost(t)
	r := inItsTurn(t, a, key{"vm1", "net0"}, func(r *record) { r.Follow = true })
	linkUp := func() bool { return h.w.NICs("vm1")["net0"].LinkUp }
	h.w.Refuse("SetLink", 1)
	a.setLinks("u0", false)
	a.setLinks("u0", false)
	eventually(t, "the guest's link goes down", is(func() bool { return !linkUp() }))
	eventually(t, "it is written down", is(func() bool { r, _ := a.store.get(r.key()); return r.LinkDown }))
	a.setLinks("u0", true)
	eventually(t, "the guest's link comes back", is(linkUp))
}

func TestVLANIsMadeForTheFirstNICAndGoesWithTheLast(t *testing.T) {
	w := newWorld()
	w.StartVM("fw1")
	w.StartVM("fw2")
	h := newHost(t, w, testConfig())
	a := h.start()
	vlan := func(vm string) vmnetd.Request { return vmnetd.Request{VM: vm, Network: "v7"} }
	w.Refuse("EnsureVLAN", 1)
	if _, err := a.Attach(t.Context(), Caller{}, vlan("fw1")); err == nil {
		t.Error("attached without its VLAN")
	}
	if err := h.clean("fw1"); err != nil {
		t.Error(err)
	}
	for _, vm := range []string{"fw1", "fw2"} {
		if att := attach(t, a, vlan(vm)); att.VLAN != 7 || att.Uplink != "u0" {
			t.Errorf("%+v", att)
		}
	}
	for _, vm := range []string{"fw1", "fw2"} {
		if got := w.VLANs(); !slices.Equal(got, []string{"u0.7"}) {
			t.Errorf("before %s goes: %v", vm, got)
		}
		if _, err := a.Detach(t.Context(), Caller{}, vm, Selector{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.clean("fw2"); err != nil {
		t.Error(err)
	}
}

func TestUplinksCannotBeAppliedWhereNoneIsOurs(t *testing.T) {
	w := agenttest.New()
	a := newHost(t, w, testConfig()).start()
	if _, err := a.Plan(t.Context(), nil); vmnetd.ClassOf(err).Name != "Unsupported" {
		t.Errorf("plan: %v", err)
	}
	if _, err := a.Apply(t.Context(), Caller{}, vmnetd.ApplyOptions{}); vmnetd.ClassOf(err).Name != "Unsupported" {
		t.Errorf("apply: %v", err)
	}
	if _, err := a.Team(t.Context(), Caller{}, "team7", vmnetd.TeamRequest{}); vmnetd.ClassOf(err).Name != "NotFound" {
		t.Errorf("team: %v", err)
	}
}

// inItsTurn changes a record as a job of its VM's would: what is under way since the
// attach would otherwise put it back.
func inItsTurn(t *testing.T, a *Agent, k key, change func(*record)) record {
	t.Helper()
	done := make(chan error, 1)
	var r record
	a.turns.do(k.vm, func(context.Context) {
		r, _ = a.store.get(k)
		change(&r)
		done <- a.store.put(r)
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAddressesAreAnnouncedOfGuestsThatShareAMACOnceTheyAreTheirs(t *testing.T) {
	given, old, fresh := netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8::6")
	now := time.Now()
	for mode, want := range map[vmnetd.Mode][]netip.Addr{vmnetd.L2: {given, old}, vmnetd.Bridge: nil, vmnetd.Switched: nil} {
		var r record
		r.Mode, r.Terms.IPs = mode, []netip.Prefix{netip.PrefixFrom(given, 32)}
		r.Heard = []heard{{IP: old, How: learn.ByDAD, At: now.Add(-probing)}, {IP: fresh, How: learn.ByDAD, At: now}}
		if got := r.address().IPs; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", mode, got, want)
		}
	}
}
