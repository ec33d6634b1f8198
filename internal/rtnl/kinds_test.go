package rtnl_test

import (
	"testing"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func TestTunSaysWhatIPTuntapMade(t *testing.T) {
	n := newNetns(t)
	for _, c := range []struct {
		args []string
		want rtnl.Tun
	}{
		{[]string{"mode", "tun"}, rtnl.Tun{Persist: true}},
		{[]string{"mode", "tap", "vnet_hdr"}, rtnl.Tun{Tap: true, Persist: true, VNetHdr: true}},
		{[]string{"mode", "tap", "multi_queue"}, rtnl.Tun{Tap: true, Persist: true, MultiQueue: true}},
	} {
		ip(t, n, append([]string{"tuntap", "add", "dev", "t0"}, c.args...)...)
		if got, ok := n.Link(t, "t0").Tun(); !ok || got != c.want {
			t.Errorf("%v: %+v, %v", c.args, got, ok)
		}
		n.Delete(t, "t0")
	}
	if got, ok := n.Link(t, "lo").Tun(); ok {
		t.Errorf("lo is %+v", got)
	}
}

func TestBridgePortIsReadAndChangedAsIPLinkHasIt(t *testing.T) {
	n, out := newNetns(t), newNetns(t)
	br := n.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	n.Create(t, rtnl.NewLink{Name: "p0", Kind: "veth", Data: rtnl.VethPeer("far0", out.NS(), rtnl.MTU(1400))})
	if far := out.Link(t, "far0"); far.MTU != 1400 {
		t.Errorf("the far end is %+v", far)
	}
	if _, ok := n.Link(t, "p0").BridgePort(); ok {
		t.Error("a port of no bridge")
	}
	if filtering, _ := br.BridgeVLANs(); filtering {
		t.Error("a new bridge tells VLANs apart")
	}
	n.Set(t, "p0", rtnl.Master(br.Index))
	ip(t, n, "link", "set", "p0", "type", "bridge_slave", "hairpin", "on", "guard", "on", "learning", "off")
	want := rtnl.BridgePort{Hairpin: true, BPDUGuard: true}
	if got, ok := n.Link(t, "p0").BridgePort(); !ok || got != want {
		t.Errorf("%+v, %v, want %+v", got, ok, want)
	}
	for _, want := range []rtnl.BridgePort{{Isolated: true}, {Learning: true}, {Hairpin: true}, {BPDUGuard: true}, {}} {
		n.Set(t, "p0", rtnl.PortInfo("bridge", want.Attrs()))
		if got, _ := n.Link(t, "p0").BridgePort(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
