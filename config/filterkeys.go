package config

import (
	"fmt"
	"strconv"

	"github.com/vmnetd/vmnetd/policy"
)

// rawFilter is filter; true means deny.
type rawFilter struct {
	spoof, dhcpServer, ra got[bool]
	ethertypes            got[[]got[uint16]]
	broadcast, multicast  got[int]
}

var filterKeys = object[rawFilter]{what: "filter", rows: []row[rawFilter]{
	key("spoof", func(f *rawFilter) *got[bool] { return &f.spoof }, codec[got[bool]](denied)),
	key("dhcp_server", func(f *rawFilter) *got[bool] { return &f.dhcpServer }, codec[got[bool]](denied)),
	key("ra", func(f *rawFilter) *got[bool] { return &f.ra }, codec[got[bool]](denied)),
	key("ethertypes", func(f *rawFilter) *got[[]got[uint16]] { return &f.ethertypes }, codec[got[[]got[uint16]]](listOf[got[uint16]]{
		item: ethertype, what: "a list of ethertypes",
	})),
	key("broadcast", func(f *rawFilter) *got[int] { return &f.broadcast }, codec[got[int]](packetRate)),
	key("multicast", func(f *rawFilter) *got[int] { return &f.multicast }, codec[got[int]](packetRate)),
}}

const maxPacketRate = 10_000_000 // packets/s; beyond that no limit is meant

var (
	denied     = scalar[bool]{shapes: []shape{text}, want: "deny or allow", hint: "write deny or allow", read: readDenied}
	ethertype  = scalar[uint16]{shapes: []shape{text, number}, want: "an ethertype", read: readEthertype}
	packetRate = scalar[int]{shapes: []shape{number}, want: fmt.Sprintf("a number of packets a second from 1 to %d", maxPacketRate), read: readWithin("a limit of", 1, maxPacketRate)}
)

func readDenied(s string) (bool, error) {
	if s != "deny" && s != "allow" {
		return false, invalid("%q is neither deny nor allow", s)
	}
	return s == "deny", nil
}

// ethertypes are those that have a name here (IEEE 802 numbers).
var ethertypes = map[string]uint16{"ipv4": 0x0800, "arp": 0x0806, "ipv6": 0x86dd}

// readEthertype takes what IEEE 802.3 3.2.6 calls a type: what is less is a length.
func readEthertype(s string) (uint16, error) {
	if t, ok := ethertypes[s]; ok {
		return t, nil
	}
	n, err := strconv.ParseUint(s, 0, 16)
	if err != nil || n < 0x600 {
		return 0, invalid("ethertype %q is neither ipv4, ipv6, arp nor a number from 0x0600 to 0xffff", s)
	}
	return uint16(n), nil
}

// putEthertypes leaves alone a list in which everything was wrong, and reported.
func putEthertypes(g *policy.Grant, v []got[uint16], at policy.Pos) {
	if types := values(v); len(types) > 0 {
		g.Filter.Ethertypes, g.Filter.EthertypesAt = types, at
	}
}
