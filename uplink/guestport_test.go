package uplink

import (
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAGuestsPortOfABridgeIsNoPortThatWasOrWasNotApplied(t *testing.T) {
	testkit.Require(t, "netns")
	b := &box{ns: testkit.NewNetns(t), out: testkit.NewNetns(t), made: map[string]string{"br0": kindBridge}}
	b.kernel = &kernel{conn: b.ns.Conn()}
	testkit.NewVeth(t, b.ns, "e1", b.out, "f1")
	bridge := Spec{Name: "br0", Kind: vmnetd.UplinkBridge, Bridge: &Bridge{Ports: []string{"e1"}}}
	b.ns.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	b.ns.Run(t, "ip", "link", "set", "e1", "master", "br0")
	b.ns.Run(t, "ip", "tuntap", "add", "guest", "mode", "tap")
	testkit.NewVeth(t, b.ns, "other", b.out, "f2")
	for name, alias := range map[string]string{"guest": vmnetd.Alias("vm1", "net0"), "other": ""} {
		b.ns.Set(t, name, rtnl.Alias(alias), rtnl.Master(b.ns.Link(t, "br0").Index))
	}
	is := b.world(t)
	w, checks := want(Declared{Specs: []Spec{bridge}, Made: b.made}, is)
	if len(checks) > 0 {
		t.Fatalf("%+v", checks)
	}
	if says := strings.Join(differences(is, w, "br0"), "; "); says != "other is a port of br0 and was not applied as one" {
		t.Errorf("it differs: %q", says)
	}
	for _, s := range diff(is, w) {
		if s.Device == "guest" {
			t.Errorf("an apply would do %+v", s)
		}
	}
	if n := is.guests("br0"); n != 1 {
		t.Errorf("%d guests are counted", n)
	}
	none, _ := want(Declared{Made: b.made}, is)
	refused := refuse(is, none)
	if len(refused) == 0 || !strings.Contains(refused[0].Text, "tap of vm1/net0") || !strings.Contains(refused[0].Do, "vmnetd detach vm1 --id net0") {
		t.Errorf("without the bridge: %+v", refused)
	}
}
