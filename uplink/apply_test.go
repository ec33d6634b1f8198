package uplink

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func bridge(name string, ports ...string) Spec {
	return Spec{Name: name, Kind: vmnetd.UplinkBridge, Device: name, Bridge: &Bridge{Ports: ports}}
}

func nicMTU(name string, mtu int) Spec {
	return Spec{Name: name, Kind: vmnetd.UplinkNIC, Device: name, MTU: mtu}
}

// brief is the part of what is that an apply changes.
func (h *host) brief(t *testing.T) World {
	t.Helper()
	w, err := h.kernel.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range w {
		d.Index, d.Carrier, d.Active = 0, false, ""
		w[name] = d
	}
	return w
}

func (h *host) isAsBefore(t *testing.T, before World) {
	t.Helper()
	eventually(t, "all is as it was before", func() bool { return cmp.Equal(before, h.brief(t), worldEqual...) })
}

func TestVMApplyIsKeptWhenItIsConfirmed(t *testing.T) {
	h := newHost(t, "eno1", "eno2")
	specs := []Spec{bridge("br0", "eno1"), nicMTU("eno2", 1400)}
	a := h.apply(t, specs, vmnetd.ApplyOptions{})
	if !a.Changed || a.ID == "" || len(a.Done) == 0 || time.Until(a.Until) < 50*time.Second {
		t.Errorf("got %+v", a)
	}
	if h.masterOf(t, "eno1") != "br0" || h.ns.Link(t, "eno2").MTU != 1400 {
		t.Error("it was not applied")
	}
	if _, _, ever := h.Applied(); ever {
		t.Error("it counts as applied before it is confirmed")
	}
	if _, err := h.Apply(t.Context(), specs, vmnetd.ApplyOptions{}); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("a second apply while one waits: %v", err)
	}
	if err := h.Confirm(t.Context(), "another"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("confirming another one: %v", err)
	}
	if err := h.Confirm(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	h.noCheckpoint(t)
	h.start(t)
	got, at, ever := h.Applied()
	if !ever || time.Since(at) > time.Minute || !cmp.Equal(specs, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("the next start finds %+v, %v, %v", got, at, ever)
	}
	for _, file := range []string{"applied/uplinks.json", "uplinks/overrides.json"} {
		st, err := os.Stat(filepath.Join(h.lib, file))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, st, err)
		}
	}
	again := h.apply(t, specs, vmnetd.ApplyOptions{})
	if again.Changed || again.ID != "" {
		t.Errorf("the same again did %+v", again)
	}
}

func TestVMWhatNobodyConfirmsIsTakenBack(t *testing.T) {
	h := newHost(t, "eno1", "eno2")
	before := h.brief(t)
	run(t, func(ctx context.Context) error { return h.Run(ctx, func(int) {}) })
	h.apply(t, []Spec{bridge("br0", "eno1"), nicMTU("eno2", 1400)}, vmnetd.ApplyOptions{ConfirmWithin: 5 * time.Second})
	if !h.there(t, "br0") {
		t.Fatal("it was not applied")
	}
	h.isAsBefore(t, before)
	h.noCheckpoint(t)
	eventually(t, "it is told", func() bool { return h.told("rolled-back") })
	if _, _, ever := h.Applied(); ever {
		t.Error("it counts as applied")
	}
}

func TestVMRollbackBringsBackWhatWas(t *testing.T) {
	h := newHost(t, "eno1", "eno2", "eno3")
	h.apply(t, []Spec{bridge("br0", "eno1", "eno2")}, vmnetd.ApplyOptions{NoConfirm: true})
	h.ip(t, "link", "set", "br0", "type", "bridge", "ageing_time", "12300", "forward_delay", "200")
	before := h.brief(t)
	h.apply(t, []Spec{{Name: "br0", Kind: vmnetd.UplinkBridge, Device: "br0", Bridge: &Bridge{Ports: []string{"eno3"}, AgeingTime: 77, STP: true}}}, vmnetd.ApplyOptions{})
	if h.masterOf(t, "eno1") != "" || h.masterOf(t, "eno3") != "br0" {
		t.Fatal("it was not applied")
	}
	if err := h.Rollback(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, h.brief(t), worldEqual...); diff != "" {
		t.Error(diff)
	}
	if err := h.Rollback(t.Context(), ""); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("a second rollback: %v", err)
	}
}

func TestVMWhatTheKernelWouldRefuseTouchesNothing(t *testing.T) {
	h := newHost(t, "eno1", "eno2")
	h.ns.Create(t, rtnl.NewLink{Name: "vmntap", Kind: "macvtap", Lower: h.ns.Link(t, "eno2").Index, Data: rtnl.MacvlanMode("bridge")})
	before := h.brief(t)
	_, err := h.Apply(t.Context(), []Spec{bridge("br0", "eno1", "eno2")}, vmnetd.ApplyOptions{})
	if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), "eno2") || vmnetd.NextOf(err) == "" {
		t.Errorf("got %v, next %q", err, vmnetd.NextOf(err))
	}
	if diff := cmp.Diff(before, h.brief(t), worldEqual...); diff != "" {
		t.Error(diff)
	}
	h.noCheckpoint(t)
}

func TestVMApplyThatCannotBeVerifiedIsTakenBackAtOnce(t *testing.T) {
	h := newHost(t, "eno1")
	before := h.brief(t)
	spec := bridge("br0", "eno1")
	spec.Probe = netip.MustParseAddr("192.0.2.7")
	start := time.Now()
	_, err := h.Apply(t.Context(), []Spec{spec}, vmnetd.ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.7 does not answer on br0") || !strings.Contains(err.Error(), "as it was before") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > settleTime+testkit.Patience/2 {
		t.Errorf("it took %v", took)
	}
	if diff := cmp.Diff(before, h.brief(t), worldEqual...); diff != "" {
		t.Error(diff)
	}
}

func TestVMProbeIsAnsweredByARPAndNeighbourDiscovery(t *testing.T) {
	h := newHost(t, "eno1")
	addrs := map[string]string{"192.0.2.7": "192.0.2.7/24", "2001:db8::7": "2001:db8::7/64"}
	for addr, prefix := range addrs {
		out, err := h.out.Command(t.Context(), "ip", "addr", "add", prefix, "dev", "far-eno1", "nodad").CombinedOutput()
		if err != nil && !strings.Contains(addr, ":") {
			out, err = h.out.Command(t.Context(), "ip", "addr", "add", prefix, "dev", "far-eno1").CombinedOutput()
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		spec := bridge("br0", "eno1")
		spec.Probe = netip.MustParseAddr(addr)
		h.apply(t, []Spec{spec}, vmnetd.ApplyOptions{NoConfirm: true})
		h.ns.Delete(t, "br0")
	}
}

func TestVMAddressesMoveToTheTopmostDeviceAndBack(t *testing.T) {
	h := newHost(t, "eno1")
	h.ip(t, "addr", "add", "192.0.2.17/24", "dev", "eno1")
	h.ip(t, "route", "add", "default", "via", "192.0.2.1", "dev", "eno1")
	before := h.brief(t)
	var told []netip.Prefix
	h.start(t, func(o *Options) { o.Announce = func(_ int, addrs []netip.Prefix) { told = append(told, addrs...) } })
	h.apply(t, []Spec{bridge("br0", "eno1")}, vmnetd.ApplyOptions{Force: true})
	now := h.brief(t)
	if len(now["br0"].Addrs) != 1 || len(now["br0"].Routes) != 1 || len(now["eno1"].Addrs) != 0 {
		t.Errorf("br0 has %v %v, eno1 %v", now["br0"].Addrs, now["br0"].Routes, now["eno1"].Addrs)
	}
	if len(told) != 1 || told[0] != netip.MustParsePrefix("192.0.2.17/24") {
		t.Errorf("told of %v", told)
	}
	if err := h.Rollback(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, h.brief(t), worldEqual...); diff != "" {
		t.Error(diff)
	}
}

func TestVMOnlyTheNamedUplinksAndWhatTheyStandOnAreApplied(t *testing.T) {
	h := newHost(t, "eno1", "eno2")
	both := []Spec{bridge("br0", "eno1"), bridge("br1", "eno2")}
	h.apply(t, both, vmnetd.ApplyOptions{Uplinks: []string{"br1"}, NoConfirm: true})
	if h.there(t, "br0") || !h.there(t, "br1") {
		t.Error("not br1 alone")
	}
	h.apply(t, []Spec{bridge("br0", "eno1")}, vmnetd.ApplyOptions{Uplinks: []string{"br0"}, NoConfirm: true})
	if !h.there(t, "br0") || !h.there(t, "br1") {
		t.Error("what was applied and not named did not stay")
	}
	if _, err := h.Apply(t.Context(), both, vmnetd.ApplyOptions{Uplinks: []string{"nosuch"}}); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("a name that is none: %v", err)
	}
	h.apply(t, []Spec{bridge("br0", "eno1")}, vmnetd.ApplyOptions{NoConfirm: true})
	if h.there(t, "br1") {
		t.Error("what is declared no more is still there")
	}
}

func TestVMNICThatComesGetsItsMTUAndWhatIsDoneToItByHandStays(t *testing.T) {
	h := newHost(t, "eno1")
	h.apply(t, []Spec{nicMTU("eno1", 1400)}, vmnetd.ApplyOptions{NoConfirm: true})
	repaired := func(want int) {
		t.Helper()
		if err := h.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
		if mtu := h.ns.Link(t, "eno1").MTU; mtu != want {
			t.Errorf("the MTU is %d, want %d", mtu, want)
		}
	}
	repaired(1400)
	h.ip(t, "link", "set", "eno1", "mtu", "1300")
	repaired(1300)
	h.start(t) // the daemon, not the host
	repaired(1300)
	h.ns.Delete(t, "eno1")
	testkit.NewVeth(t, h.ns, "eno1", h.ns, "eno1-again")
	repaired(1400)
	h.ip(t, "link", "set", "eno1", "mtu", "1300")
	h.start(t, func(o *Options) { o.Boot = "the-next-boot" })
	repaired(1400)
}
