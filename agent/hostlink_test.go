package agent

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/hostlink"
	"github.com/vmnetd/vmnetd/internal/rtnl"
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

// reboot takes away what a reboot takes: the devices, the VMs and what is kept in
// /run.
func (h *host) reboot() {
	h.t.Helper()
	h.halt()
	if err := os.RemoveAll(filepath.Join(h.dir, "state.json")); err != nil {
		h.t.Fatal(err)
	}
	h.w = newWorld()
	h.start()
}

func TestAHostLinkIsAfterARebootWhatItWasBesideItsGuests(t *testing.T) {
	cfg := roomConfig()
	one := &cfg.Policy.Networks[len(cfg.Policy.Networks)-1]
	one.Grant.Modes = []vmnetd.Mode{vmnetd.Bridge, vmnetd.L2}
	cfg.Policy.Rules[0].Grant.Flag = policy.FlagVEPA
	w := newWorld()
	w.StartVM("ip1")
	h := newHost(t, w, cfg)
	h.start()
	guest := vmnetd.Request{VM: "ip1", Network: "one", Mode: vmnetd.L2, IPs: []string{"192.0.2.11"}}
	attach(t, h.agent, guest)
	if l, err := h.linkTo("one"); err != nil || l.Kind != vmnetd.Ipvlan {
		t.Fatalf("%+v, %v", l, err)
	}
	h.reboot()
	eventually(t, "made again", is(func() bool { return len(h.w.HostLinks()) == 1 }))
	if l := h.w.HostLinks()["one"]; l.Kind != vmnetd.Ipvlan || l.Mode != vmnetd.L2 || l.Flag != policy.FlagVEPA {
		t.Errorf("%+v", l)
	}
	h.w.StartVM("ip1")
	attach(t, h.agent, guest)
	if again, err := h.linkTo("one"); err != nil || again.Changed {
		t.Errorf("the same again: %+v, %v", again, err)
	}
}

func TestAHostLinkThatWasGivesWayToAnUplinkWithOneMAC(t *testing.T) {
	cfg := testConfig()
	cfg.Policy.Networks[0].Grant.Modes = []vmnetd.Mode{vmnetd.Auto}
	h := newHost(t, newWorld(), cfg)
	h.start()
	if l, err := h.linkTo("lan"); err != nil || l.Kind != vmnetd.Macvlan {
		t.Fatalf("%+v, %v", l, err)
	}
	h.cfg.cfg.Policy.Limits = map[string]policy.Limits{"u0": {MaxMACs: 1}}
	h.reboot()
	eventually(t, "made again", is(func() bool { return h.w.HostLinks()["lan"].Kind == vmnetd.Ipvlan }))
}

func TestAHostLinkThatWasGivesWayToOtherModesOfItsNetwork(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	if l, err := h.linkTo("lan"); err != nil || l.Kind != vmnetd.Macvlan {
		t.Fatalf("%+v, %v", l, err)
	}
	h.cfg.cfg.Policy.Networks[0].Grant.Modes = []vmnetd.Mode{vmnetd.L2}
	for i := range h.cfg.cfg.Policy.Rules {
		h.cfg.cfg.Policy.Rules[i].Grant.Modes = nil
	}
	h.reboot()
	eventually(t, "made again", is(func() bool { return h.w.HostLinks()["lan"].Kind == vmnetd.Ipvlan }))
}

func TestAHostLinkHasTheFlagThatGuestsOfItsNetworkWouldHave(t *testing.T) {
	for _, c := range []struct {
		modes         []vmnetd.Mode
		network, want string
	}{
		{[]vmnetd.Mode{vmnetd.L2}, "", policy.FlagVEPA},
		{[]vmnetd.Mode{vmnetd.L2}, policy.FlagPrivate, policy.FlagPrivate},
		{[]vmnetd.Mode{vmnetd.Bridge, vmnetd.L2}, policy.FlagPrivate, ""}, // a macvlan has none
	} {
		cfg := testConfig()
		cfg.Policy.Defaults.Flag = policy.FlagVEPA
		cfg.Policy.Networks[0].Grant.Modes, cfg.Policy.Networks[0].Grant.Flag = c.modes, c.network
		h := newHost(t, newWorld(), cfg)
		h.start()
		if _, err := h.linkTo("lan"); err != nil {
			t.Fatal(err)
		}
		if got := h.w.HostLinks()["lan"].Flag; got != c.want {
			t.Errorf("%v: %q", c.modes, got)
		}
	}
}

func TestAHostLinkIsLookedAtWhenTheHostGetsAnAddressInItsPrefix(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	if _, err := h.linkTo("lan"); err != nil {
		t.Fatal(err)
	}
	h.w.HostLinkGone("lan") // what shows that it was looked at
	h.w.TellAddr("u0", rtnl.Addr{Prefix: netip.MustParsePrefix("192.0.2.5/24")})
	eventually(t, "made again", is(func() bool { return len(h.w.HostLinks()) == 1 }))

	h.halt() // what rings the bell now, nobody takes
	for _, c := range []struct {
		on   string
		addr rtnl.Addr
		want int
	}{
		{hostlink.Ifname("lan"), rtnl.Addr{Prefix: netip.MustParsePrefix("192.0.2.18/24")}, 0}, // its own
		{"u0", rtnl.Addr{Prefix: netip.MustParsePrefix("198.51.100.5/24")}, 0},
		{"u0", rtnl.Addr{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Peer: netip.MustParsePrefix("10.0.0.2/32")}, 0},
		{"u0", rtnl.Addr{Prefix: netip.MustParsePrefix("10.0.0.1/32"), Peer: netip.MustParsePrefix("192.0.2.2/32")}, 1},
	} {
		select {
		case <-h.agent.links.bell:
		default:
		}
		h.w.TellAddr(c.on, c.addr)
		if got := len(h.agent.links.bell); got != c.want {
			t.Errorf("%v on %s rings %d times, want %d", c.addr, c.on, got, c.want)
		}
	}
}

// patientHost is a host that is to have a link to lan, and does not run; once it does,
// what fails is tried again much later.
func patientHost(t *testing.T) *host {
	t.Helper()
	h := newHost(t, newWorld(), testConfig())
	h.start()
	if _, err := h.linkTo("lan"); err != nil {
		t.Fatal(err)
	}
	h.halt()
	h.pause = time.Hour
	return h
}

func TestAHostLinkThatFailsIsTriedAgainByATimerAndNotByTheNewsThatItMakes(t *testing.T) {
	h := patientHost(t)
	var tries atomic.Int32
	h.w.At("HostLink", 1000, func() error {
		tries.Add(1)
		h.w.SetCarrier("u0", true) // as a device that is made on it and taken back
		return agenttest.ErrInjected
	})
	h.start()
	seen := h.subscribe()
	for i := range 20 { // each is looked at before the next comes
		mtu := 1400 + i
		h.w.SetMTU("u0", mtu)
		eventually(t, "looked at", is(func() bool { return seen.uplink("u0").MTU == mtu }))
	}
	if n := tries.Load(); n > 2 { // one before the uplinks were looked at
		t.Errorf("tried %d times", n)
	}
	if l := h.agent.HostLinks(); len(l) != 1 || l[0].Problem == "" {
		t.Errorf("%+v", l)
	}

	h.halt()
	h.pause = 0
	h.w.Refuse("HostLink", 8)
	h.start()
	eventually(t, "made by itself", is(func() bool { l := h.agent.HostLinks(); return len(l) == 1 && l[0].Ifname != "" }))
}

func TestAHostLinkThatRestsIsMadeAtOnceWhenAskedFor(t *testing.T) {
	h := patientHost(t)
	h.w.Refuse("HostLink", 2)
	h.start()
	eventually(t, "rests", is(func() bool { return h.agent.links.rests("lan") }))
	h.w.Refuse("HostLink", 0)
	if l, err := h.linkTo("lan"); err != nil || l.Problem != "" {
		t.Errorf("%+v, %v", l, err)
	}
	h.w.HostLinkGone("lan")
	h.w.SetCarrier("u0", false)
	eventually(t, "followed again", is(func() bool { return len(h.w.HostLinks()) == 1 }))
}
