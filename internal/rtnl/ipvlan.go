package rtnl

import (
	"slices"

	"github.com/vishvananda/netlink/nl"
)

// Modes and flags of an ipvlan's or ipvtap's lower device by their number, as
// ip-link(8) names them (uapi/linux/if_link.h, IPVLAN_MODE_* and IPVLAN_F_*). No
// flag is its "bridge".
var (
	ipvlanModes = []string{"l2", "l3", "l3s"}
	ipvlanFlags = []string{"bridge", "private", "vepa"}
)

// IpvlanMode is the IFLA_INFO_DATA of an ipvlan or ipvtap of that mode and flag,
// by the names that ip-link(8) has for them; flag "" is bridge.
func IpvlanMode(mode, flag string) []Attr {
	m, f := slices.Index(ipvlanModes, mode), max(0, slices.Index(ipvlanFlags, flag))
	if m < 0 {
		return nil
	}
	return []Attr{
		{Type: nl.IFLA_IPVLAN_MODE, Value: nl.Uint16Attr(uint16(m))},
		{Type: nl.IFLA_IPVLAN_FLAG, Value: nl.Uint16Attr(uint16(f))},
	}
}

// takeIpvlan reads an attribute of an ipvlan or ipvtap.
func (l *Link) takeIpvlan(attr int, v []byte) {
	n := int(short(v))
	switch {
	case attr == nl.IFLA_IPVLAN_MODE && n < len(ipvlanModes):
		l.Mode = ipvlanModes[n]
	case attr == nl.IFLA_IPVLAN_FLAG && n < len(ipvlanFlags):
		l.Flag = ipvlanFlags[n]
	}
}

func short(v []byte) uint16 {
	if len(v) < 2 {
		return 0
	}
	return nl.NativeEndian().Uint16(v)
}
