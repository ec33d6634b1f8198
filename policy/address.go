package policy

import (
	"fmt"
	"net/netip"

	"github.com/vmnetd/vmnetd"
)

const goodIP = "write one such as 192.0.2.1 or 2001:db8::1"

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ParseAddr reads an address that one guest can have. It fails with
// vmnetd.ErrInvalid for those of groups, of nobody and of a host itself.
func ParseAddr(s string) (netip.Addr, error) {
	bad := func(format string, args ...any) (netip.Addr, error) {
		return netip.Addr{}, vmnetd.Errorf(vmnetd.ErrInvalid, "IP %q %s", s, fmt.Sprintf(format, args...)).WithNext(goodIP)
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return bad("is no address")
	case a.Zone() != "":
		return bad("names a device after '%%'")
	case a.Is4In6():
		return bad("is an IPv4 address in IPv6's writing: %s", a.Unmap())
	case a.IsUnspecified():
		return bad("is nobody's")
	case a.IsMulticast():
		return bad("is that of a group")
	case a.IsLoopback():
		return bad("never leaves a host")
	case a == broadcast4:
		return bad("is that of everybody")
	}
	return a, nil
}

// ParseIP reads ADDRESS or ADDRESS/LENGTH; without a length it is the whole
// address. It fails with vmnetd.ErrInvalid as ParseAddr does, and for what names
// an IPv4 network or its broadcast address (RFC 1122 3.2.1.3).
func ParseIP(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return whole(a), nil
	}
	a, err := ParseAddr(p.Addr().String())
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.Is4() && p.Bits() < 31 && (a == p.Masked().Addr() || a == lastOf(p)) {
		return netip.Prefix{}, vmnetd.Errorf(vmnetd.ErrInvalid, "IP %q is that of the network or of everybody in it, not of one guest", s).WithNext(goodIP)
	}
	return p, nil
}

// whole is an address as a prefix of its full length.
func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// lastOf is the last address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := range b {
		b[i] |= byte(0xff >> max(0, min(8, p.Bits()-8*i)))
	}
	return netip.AddrFrom4(b)
}
