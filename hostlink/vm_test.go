package hostlink

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestVMHostAndIpvlanGuestReachEachOther(t *testing.T) {
	testkit.Require(t, "vm")
	for mode, uplink := range map[vmnetd.Mode][]string{vmnetd.L2: {"192.0.2.5/24", "2001:db8::5/64"}, vmnetd.L3: nil} {
		t.Run(string(mode), func(t *testing.T) {
			l := newLab(t)
			for _, a := range uplink {
				l.ip("addr", "add", a, "dev", "u0", "nodad")
			}
			l.guest("ipvlan", ipvlanData(mode, "bridge"), "192.0.2.9/24", "2001:db8::9/64")
			s := ipvlanSpec(l, mode, "192.0.2.1/24", "2001:db8::1/64")
			s.Guests = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}
			link := l.ensure(s)
			if link.Kind != vmnetd.Ipvlan || link.Mode != mode || link.MAC.String() != l.u0.MAC.String() {
				t.Errorf("%+v", link)
			}
			for i, own := range []string{"192.0.2.1", "2001:db8::1"} {
				if guest := s.Guests[i].String(); !reaches(t, l.ns, guest) {
					t.Errorf("the host does not reach %s\n%s", guest, l.everything())
				}
				if !reaches(t, l.guestNS, own) {
					t.Errorf("the guest does not reach %s\n%s", own, l.everything())
				}
			}
			good := l.everything()
			if l.ensure(s); l.everything() != good {
				t.Error(cmp.Diff(good, l.everything()))
			}
		})
	}
}

func ipvlanSpec(l *lab, mode vmnetd.Mode, ips ...string) Spec {
	s := spec(l, ips...)
	s.Kind, s.Mode, s.MAC = vmnetd.Ipvlan, mode, nil
	return s
}

// ipvlan makes one in the host's own namespace.
func (l *lab) ipvlan(mode vmnetd.Mode, flag string) {
	l.ns.Create(l.t, rtnl.NewLink{Name: "i0", Kind: "ipvlan", Lower: l.u0.Index, Data: ipvlanData(mode, flag)})
}

func macvlan(s *Spec) {
	s.Kind, s.Mode, s.MAC = vmnetd.Macvlan, vmnetd.Bridge, net.HardwareAddr{0x52, 0x54, 0, 0, 0, 9}
}

func TestVMAnIpvlanThatCannotBeLeavesWhatWas(t *testing.T) {
	testkit.Require(t, "vm")
	for name, c := range map[string]struct {
		prepare func(*lab)
		change  func(*Spec)
		says    string
	}{
		"another mode": {func(l *lab) { l.ipvlan(vmnetd.L3, "bridge") }, nil, "in mode l3 bridge (ipvlan i0)"},
		"the other family": {func(l *lab) {
			l.ns.Create(l.t, rtnl.NewLink{Name: "m0", Kind: "macvtap", Lower: l.u0.Index, Data: rtnl.MacvlanMode("bridge")})
		}, nil, "macvtap m0 stands on it"},
		"a macvlan beside one in another namespace": {func(l *lab) { l.guest("ipvlan", ipvlanData(vmnetd.L2, "bridge")) }, macvlan, "something else receives its frames"},
		"the address of a guest": {func(l *lab) {
			l.guest("ipvlan", ipvlanData(vmnetd.L2, "bridge"))
			l.guestIP("addr", "add", "192.0.2.1/24", "dev", "g0")
		}, nil, "address 192.0.2.1 is taken"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.quiet()
			c.prepare(l)
			before := l.everything()
			s := ipvlanSpec(l, vmnetd.L2, "192.0.2.1/24", "2001:db8::1/64")
			if c.change != nil {
				c.change(&s)
			}
			_, err := l.Ensure(t.Context(), s)
			if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if after := l.everything(); after != before {
				t.Error(cmp.Diff(before, after))
			}
		})
	}
}
