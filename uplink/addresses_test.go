package uplink

import (
	"net/netip"
	"testing"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// with4 has an address on a device, and a default route where via is given.
func with4(d Device, prefix, via string) Device {
	a := rtnl.Addr{Prefix: netip.MustParsePrefix(prefix), Dynamic: len(d.Addrs) > 0}
	d.Addrs = []rtnl.Addr{a}
	if via != "" {
		d.Routes = []rtnl.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(via)}}
	}
	return d
}

// dynamic has the next address come from DHCP.
func dynamic(d Device) Device {
	d.Addrs = []rtnl.Addr{{Dynamic: true}}
	return d
}

func TestAPlanSaysWhichAddressesMoveAndWhichDoNot(t *testing.T) {
	is := world(with4(nic("e1", 1), "192.0.2.17/24", "192.0.2.1"), with4(dynamic(nic("e2", 2)), "198.51.100.2/24", ""))
	w, _ := want(Declared{Specs: []Spec{bondSpec("bond0", "active-backup", nil, "e1", "e2")}}, is)
	m := moves(is, w)
	if len(m) != 1 || m[0].text() != "192.0.2.17/24 and the default route via 192.0.2.1 move from e1 to bond0" {
		t.Errorf("moves: %v", m)
	}
	if mind := left(is, w); len(mind) != 1 || mind[0] != "198.51.100.2/24 on e2 was given by DHCP or a router and is not moved: it must be asked for on bond0" {
		t.Errorf("mind: %q", mind)
	}
}
