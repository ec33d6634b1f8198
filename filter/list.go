package filter

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/vmnetd/vmnetd"
)

// list is what a field is compared with. A single value stands in the rule: that
// is the quickest, and a set costs every change of the table a walk past it
// (net/netfilter/nf_tables_api.c, nft_set_lookup). Several are a named set, whose
// elements come and go.
type list struct {
	set    string
	key    nftables.SetDatatype
	values []value
	ranges [][2][]byte // first and last, instead of values
}

func (l list) empty() bool { return len(l.values) == 0 && len(l.ranges) == 0 }
func (l list) inSet() bool { return len(l.values) != 1 && !l.empty() }

// setNames are the ends of the names of a device's sets; no device's name has a
// slash (net/core/dev.c, dev_valid_name).
var setNames = []string{"/mac", "/ip4", "/ip6", "/vlan"}

// lists are the lists of a Spec.
type lists struct{ macs, ip4, ip6, vlans list }

func listsOf(s Spec) lists {
	return lists{
		macs:  macList(s),
		ip4:   addressList(s.Ifname+"/ip4", nftables.TypeIPAddr, v4Of(s)),
		ip6:   addressList(s.Ifname+"/ip6", nftables.TypeIP6Addr, v6Of(s)),
		vlans: vlanList(s),
	}
}

func macList(s Spec) list {
	l := list{set: s.Ifname + "/mac", key: nftables.TypeEtherAddr}
	for _, m := range s.MACs {
		l.add(value{m, ones(6)})
	}
	return l
}

func vlanList(s Spec) list {
	l := list{set: s.Ifname + "/vlan", key: nftables.SetDatatype{Name: "integer", Bytes: 2}}
	l.key.SetNFTMagic(nftables.TypeEtherType.GetNFTMagic()) // shown as hexadecimal
	for _, v := range joined(s.Trunk) {
		l.ranges = append(l.ranges, [2][]byte{be16(v.From), be16(v.To)})
	}
	return l
}

// joined are the ranges in order, without overlaps.
func joined(ranges []vmnetd.VLANRange) []vmnetd.VLANRange {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b vmnetd.VLANRange) int { return a.From - b.From })
	var out []vmnetd.VLANRange
	for _, r := range sorted {
		if n := len(out); n > 0 && r.From <= out[n-1].To+1 {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}

func addressList(set string, key nftables.SetDatatype, prefixes []netip.Prefix) list {
	l := list{set: set, key: key}
	for _, p := range apart(prefixes) {
		l.add(value{p.Addr().AsSlice(), net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return l
}

func (l *list) add(v value) {
	if !slices.ContainsFunc(l.values, func(o value) bool { return bytes.Equal(o.first, v.first) }) {
		l.values = append(l.values, v)
	}
}

// apart are the prefixes that no other contains: intervals of a set do not
// overlap.
func apart(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.SortedFunc(slices.Values(prefixes), func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, p := range sorted {
		if !slices.ContainsFunc(out, func(wider netip.Prefix) bool { return wider.Contains(p.Addr()) }) {
			out = append(out, p)
		}
	}
	return out
}

func v4Of(s Spec) []netip.Prefix {
	var own []netip.Prefix
	for _, p := range s.IPs {
		if p.Addr().Unmap().Is4() {
			own = append(own, unmapped(p))
		}
	}
	return own
}

// v6Of is the addresses of IPv6, and with them the link-local ones that every
// MAC has by itself (RFC 4291, appendix A).
func v6Of(s Spec) []netip.Prefix {
	var own []netip.Prefix
	for _, p := range s.IPs {
		if !p.Addr().Unmap().Is4() {
			own = append(own, p.Masked())
		}
	}
	for _, m := range s.MACs {
		own = append(own, netip.PrefixFrom(linkLocal(m), 128))
	}
	return own
}

func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), max(p.Bits()-96, 0))
	}
	return p.Masked()
}

func linkLocal(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

func ones(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }

func be16(n int) []byte { return []byte{byte(n >> 8), byte(n)} }
