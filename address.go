package vmnetd

import (
	"net/netip"
	"slices"
	"strings"
)

const (
	goodIP    = "write it as 192.0.2.101, 192.0.2.101/24 or 2001:db8::101"
	goodRoute = `write it as "default via 192.0.2.1", "198.51.100.0/24 via 192.0.2.1" or "198.51.100.0/24"`
)

// ParseIP reads an address that one station can have: ADDRESS, or ADDRESS/LENGTH.
// Without a length the prefix is the address alone (/32, /128).
func ParseIP(s string) (netip.Prefix, error) {
	p, err := parsePrefix(s)
	if err != nil {
		return p, Errorf(ErrInvalid, "%q is no IP address", s).WithNext(goodIP)
	}
	if why := noStation(p); why != "" {
		return p, Errorf(ErrInvalid, "address %s %s", s, why).WithNext(goodIP)
	}
	return p, nil
}

// IPText is the one way in which an address is written: its length only where it
// says something.
func IPText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// CheckIPs writes addresses the one way, each once, in the order given. It fails
// with ErrInvalid for what ParseIP refuses, and for an address with two lengths.
func CheckIPs(list []string) ([]string, error) {
	var known []netip.Prefix
	var texts []string
	for _, s := range list {
		p, err := ParseIP(s)
		if err != nil {
			return nil, err
		}
		if slices.Contains(known, p) {
			continue
		}
		if slices.ContainsFunc(known, func(k netip.Prefix) bool { return k.Addr() == p.Addr() }) {
			return nil, Errorf(ErrInvalid, "address %s is given with two lengths", p.Addr()).WithNext("give it once")
		}
		known, texts = append(known, p), append(texts, IPText(p))
	}
	return texts, nil
}

// CheckHostIPs is CheckIPs for addresses that this host is to have: each needs its
// length, and is written with it.
func CheckHostIPs(list []string) ([]string, error) {
	for _, s := range list {
		if p, err := ParseIP(s); err == nil && !strings.Contains(s, "/") {
			return nil, Errorf(ErrInvalid, "address %s has no length", s).
				WithNext("write that of its network, such as " + netip.PrefixFrom(p.Addr(), usualLength(p.Addr())).String())
		}
	}
	texts, err := CheckIPs(list)
	for i, s := range texts {
		if a, err := netip.ParseAddr(s); err == nil {
			texts[i] = netip.PrefixFrom(a, a.BitLen()).String()
		}
	}
	return texts, err
}

func usualLength(a netip.Addr) int {
	if a.Is4() {
		return 24
	}
	return 64
}

// ParseRoute reads "PREFIX via ADDRESS", "PREFIX" or "default via ADDRESS", the
// words of ip-route(8); via is invalid where the route is on the link.
func ParseRoute(s string) (to netip.Prefix, via netip.Addr, err error) {
	words := strings.Fields(s)
	why := ""
	switch {
	case len(words) == 3 && words[1] == "via":
		via, why = parseRouter(words[2])
	case len(words) != 1:
		why = "is none of PREFIX, PREFIX via ADDRESS and default via ADDRESS"
	}
	if why == "" {
		to, why = parseDestination(words[0], via)
	}
	if why != "" {
		return netip.Prefix{}, netip.Addr{}, Errorf(ErrInvalid, "route %q %s", s, why).WithNext(goodRoute)
	}
	return to, via, nil
}

// parseRouter and parseDestination say why not, "" where all is well.
func parseRouter(s string) (via netip.Addr, why string) {
	via, err := netip.ParseAddr(s)
	if err != nil || via.Zone() != "" || noStation(netip.PrefixFrom(via, via.BitLen())) != "" {
		return via, "goes by " + s + ", which is no address of a router"
	}
	return via, ""
}

func parseDestination(s string, via netip.Addr) (to netip.Prefix, why string) {
	if s == "default" {
		if !via.IsValid() {
			return to, "does not say by which router"
		}
		return netip.PrefixFrom(nowhere(via), 0), ""
	}
	to, err := parsePrefix(s)
	switch {
	case err != nil || to.Addr().Is4In6():
		why = "leads to " + s + ", which is no prefix"
	case to != to.Masked():
		why = "leads to an address in " + to.Masked().String() + ", not to a prefix"
	case via.IsValid() && via.Is4() != to.Addr().Is4():
		why = "mixes IPv4 and IPv6"
	}
	return to, why
}

// RouteText is the one way in which a route is written.
func RouteText(to netip.Prefix, via netip.Addr) string {
	text := to.String()
	if to.Bits() == 0 && via.IsValid() {
		text = "default"
	}
	if via.IsValid() {
		text += " via " + via.String()
	}
	return text
}

// CheckRoutes writes routes the one way, each once, in the order given.
func CheckRoutes(list []string) ([]string, error) {
	var texts []string
	for _, s := range list {
		to, via, err := ParseRoute(s)
		if err != nil {
			return nil, err
		}
		if text := RouteText(to, via); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts, nil
}

// parsePrefix takes an address without a length as the whole of a prefix. A zone
// belongs to one host's devices.
func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() != "" {
		err = Errorf(ErrInvalid, "zone %s", a.Zone())
	}
	return netip.PrefixFrom(a.WithZone(""), a.BitLen()), err
}

// nowhere is the zero address of another address's family.
func nowhere(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// noStation says why no station can have an address, "" where one can.
func noStation(p netip.Prefix) string {
	a := p.Addr()
	switch {
	case a.Is4In6():
		return "is IPv4 written as IPv6: write it as " + a.Unmap().String()
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is not one that a station can have"
	case p.Bits() == 0:
		return "has length 0"
	case p.Bits() >= a.BitLen()-1: // RFC 3021, RFC 6164
		return ""
	case p == p.Masked():
		return "is a network, not an address in it"
	case a.Is4() && a == lastOf(p):
		return "is the broadcast address of " + p.Masked().String()
	}
	return ""
}

// lastOf is the last address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}
