package hostlink

import (
	"encoding/binary"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// kind is what differs between kinds of links.
type kind struct {
	modes  map[vmnetd.Mode]bool
	flags  map[string]bool
	flag   string                                          // where none is named
	ownMAC bool                                            // others have that of the uplink
	data   func(mode vmnetd.Mode, flag string) []rtnl.Attr // IFLA_INFO_DATA
	read   func(rtnl.Link) (mode vmnetd.Mode, flag string) // of a link that is there
}

var kinds = map[vmnetd.Kind]kind{
	vmnetd.Macvlan: {
		modes:  map[vmnetd.Mode]bool{vmnetd.Bridge: true},
		flags:  map[string]bool{"": true},
		ownMAC: true,
		data:   func(mode vmnetd.Mode, _ string) []rtnl.Attr { return rtnl.MacvlanMode(string(mode)) },
		read:   func(l rtnl.Link) (vmnetd.Mode, string) { return vmnetd.Mode(l.Mode), "" },
	},
	vmnetd.Ipvlan: {
		modes: map[vmnetd.Mode]bool{vmnetd.L2: true, vmnetd.L3: true},
		flags: map[string]bool{"bridge": true, "private": true, "vepa": true},
		flag:  "bridge",
		data:  ipvlanData,
		read:  ipvlanRead,
	},
}

// Attributes of an ipvlan and their values (uapi/linux/if_link.h, IFLA_IPVLAN_*,
// IPVLAN_MODE_*, IPVLAN_F_*).
const (
	iflaIpvlanMode  = 1
	iflaIpvlanFlags = 2
)

var (
	ipvlanModes = map[uint16]vmnetd.Mode{0: vmnetd.L2, 1: vmnetd.L3, 2: "l3s"}
	ipvlanFlags = map[uint16]string{0: "bridge", 1: "private", 2: "vepa"}
)

func ipvlanData(mode vmnetd.Mode, flag string) []rtnl.Attr {
	return []rtnl.Attr{
		{Type: iflaIpvlanMode, Value: uint16Attr(numberOf(ipvlanModes, mode))},
		{Type: iflaIpvlanFlags, Value: uint16Attr(numberOf(ipvlanFlags, flag))},
	}
}

func uint16Attr(v uint16) []byte { return binary.NativeEndian.AppendUint16(nil, v) }

func numberOf[T comparable](names map[uint16]T, name T) uint16 {
	for number, n := range names {
		if n == name {
			return number
		}
	}
	return 0
}

func ipvlanRead(l rtnl.Link) (mode vmnetd.Mode, flag string) {
	rtnl.Each(l.Data, func(attr int, v []byte) {
		switch {
		case attr == iflaIpvlanMode && len(v) >= 2:
			mode = ipvlanModes[binary.NativeEndian.Uint16(v)]
		case attr == iflaIpvlanFlags && len(v) >= 2:
			flag = ipvlanFlags[binary.NativeEndian.Uint16(v)]
		}
	})
	return mode, flag
}
