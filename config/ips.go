package config

import (
	"fmt"
	"net/netip"

	"github.com/vmnetd/vmnetd/policy"
)

// maxMaxIPs bounds how many addresses are learned of one NIC: each costs an entry
// in its filter, and on ipvtap an address on its device.
const maxMaxIPs = 256

// ipItem is one item of ips: learn, or a prefix, which may be one address.
type ipItem struct {
	learn  bool
	prefix netip.Prefix
}

// String is the item as it is named in messages.
func (i ipItem) String() string {
	switch {
	case i.learn:
		return "learn"
	case i.prefix.IsSingleIP():
		return i.prefix.Addr().String()
	}
	return i.prefix.String()
}

const ipForms = "write learn, an address such as 192.0.2.1, or a prefix such as 192.0.2.0/24"

var (
	ipItems = listOf[got[ipItem]]{orOne: true, what: "learn, an address, a prefix, or a list of them", item: scalar[ipItem]{
		shapes: []shape{text}, want: "learn, an address or a prefix", read: readIPItem,
	}}
	maxIPs   = scalar[int]{shapes: []shape{number}, want: fmt.Sprintf("a number from 1 to %d", maxMaxIPs), read: readWithin("max_ips", 1, maxMaxIPs)}
	nicIPs   = listOf[got[string]]{orOne: true, what: "an address or a list of them", item: scalar[string]{shapes: []shape{text}, want: "an address", read: readNICAddress}}
	prefixes = listOf[got[netip.Prefix]]{orOne: true, what: "an address, a prefix, or a list of them", item: scalar[netip.Prefix]{
		shapes: []shape{text}, want: "an address or a prefix", read: readPrefix,
	}}
)

func readIPItem(s string) (ipItem, error) {
	if s == "learn" {
		return ipItem{learn: true}, nil
	}
	if near := didYouMean(s, []string{"learn"}); near != "" {
		return ipItem{}, invalid("%q is neither learn nor an address%s", s, near).WithNext(ipForms)
	}
	p, err := readPrefix(s)
	return ipItem{prefix: p}, err
}

// readPrefix reads an address or a prefix in which a guest can have addresses.
func readPrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := policy.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch a := p.Addr(); {
	case p.IsSingleIP():
		_, err := policy.ParseAddr(a.String())
		return p, err
	case p.Masked() != p:
		return netip.Prefix{}, invalid("prefix %s has bits beyond its length", p).WithNext(fmt.Sprintf("write %s, or %s for that address", p.Masked(), a))
	case a.Is4In6() || a.IsMulticast():
		return netip.Prefix{}, invalid("%s holds no addresses that a guest can have", p)
	}
	return p, nil
}

// readNICAddress keeps the address as it was written; what comes back is what
// `attach --ip` takes.
func readNICAddress(s string) (string, error) {
	if s == "learn" {
		return "", invalid("a NIC's ips are addresses").WithNext("ips: learn  goes into the network, the rule or defaults")
	}
	p, err := policy.ParseIP(s)
	if err != nil {
		return "", err
	}
	return p.Addr().String(), nil
}

func putIPs(g *policy.Grant, items []got[ipItem], at policy.Pos) {
	ips := policy.IPs{Given: true}
	for _, i := range values(items) {
		switch {
		case i.learn:
			ips.Learn = true
		case i.prefix.IsSingleIP():
			ips.Own = append(ips.Own, i.prefix.Addr())
		default:
			ips.Within = append(ips.Within, i.prefix)
		}
	}
	g.IPs, g.IPsAt = ips, at
}

// oneForAll warns of an address that every NIC of a layer would have.
func (b *builder) oneForAll(what string, g *rawGrant) {
	for _, i := range g.ips.V {
		if i.Given && !i.V.learn && i.V.prefix.IsSingleIP() {
			b.warn(i.At, "%s gives each NIC the address %s, which only one can have: write it in a rule or in vms, or give a prefix", what, i.V)
		}
	}
}
