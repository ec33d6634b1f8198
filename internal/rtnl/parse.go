package rtnl

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Places in the array IFLA_INET6_CONF (uapi/linux/ipv6.h, DEVCONF_*). The
// array is sent in every message, IFLA_INET6_ADDR_GEN_MODE is not: the kernel
// leaves that out together with the statistics (net/ipv6/addrconf.c,
// inet6_fill_ifla6_attrs).
const (
	devconfDisableIPv6 = 26
	devconfAddrGenMode = 47
	inet6AddrGenMode   = 8 // IFLA_INET6_ADDR_GEN_MODE, uapi/linux/if_link.h
	addrGenModeNone    = 1 // IN6_ADDR_GEN_MODE_NONE, the same file
)

// Places in IFLA_INET_CONF (uapi/linux/ip.h, IPV4_DEVCONF_*), which the kernel
// takes one by one (net/ipv4/devinet.c, inet_set_link_af).
const (
	iflaInetConf           = 1
	ipv4DevconfARPAnnounce = 18
	ipv4DevconfARPIgnore   = 19
)

// Names of the modes as ip-link(8) has them (uapi/linux/if_link.h, MACVLAN_MODE_*).
var macvlanModes = map[uint32]string{1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}

// Names of bond modes by number (drivers/net/bonding/bond_options.c).
var bondModes = []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}

// parseLink reads the body of an RTM_NEWLINK or RTM_DELLINK message. The link
// keeps nothing of the buffer.
func parseLink(b []byte) (Link, error) {
	if len(b) < unix.SizeofIfInfomsg {
		return Link{}, fmt.Errorf("link message of %d bytes is too short", len(b))
	}
	msg := nl.DeserializeIfInfomsg(b)
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return Link{}, fmt.Errorf("cannot read a link message: %w", err)
	}
	l := Link{
		Index: int(msg.Index), LowerHere: true,
		Up:       msg.Flags&unix.IFF_UP != 0,
		Carrier:  msg.Flags&unix.IFF_LOWER_UP != 0,
		Running:  msg.Flags&unix.IFF_RUNNING != 0,
		AllMulti: msg.Flags&unix.IFF_ALLMULTI != 0,
	}
	for _, a := range attrs {
		if take := attributes[int(a.Attr.Type&nl.NLA_TYPE_MASK)]; take != nil {
			take(&l, a.Value)
		}
	}
	if l.Lower == 0 || l.Kind == "veth" || l.Kind == "netkit" {
		l.Lower, l.LowerHere = 0, false
	}
	return l, nil
}

// attributes says where each attribute of a link message goes.
var attributes = map[int]func(l *Link, v []byte){
	unix.IFLA_IFNAME:              func(l *Link, v []byte) { l.Name = text(v) },
	unix.IFLA_LINKINFO:            (*Link).takeInfo,
	unix.IFLA_LINK:                func(l *Link, v []byte) { l.Lower = int(number(v)) },
	unix.IFLA_LINK_NETNSID:        func(l *Link, _ []byte) { l.LowerHere = false },
	unix.IFLA_MASTER:              func(l *Link, v []byte) { l.Master = int(number(v)) },
	unix.IFLA_ADDRESS:             func(l *Link, v []byte) { l.MAC = hardware(v) },
	unix.IFLA_PERM_ADDRESS:        func(l *Link, v []byte) { l.PermMAC = hardware(v) },
	unix.IFLA_MTU:                 func(l *Link, v []byte) { l.MTU = int(number(v)) },
	unix.IFLA_IFALIAS:             func(l *Link, v []byte) { l.Alias = text(v) },
	unix.IFLA_PROMISCUITY:         func(l *Link, v []byte) { l.Promisc = int(number(v)) },
	unix.IFLA_GROUP:               func(l *Link, v []byte) { l.Group = number(v) },
	unix.IFLA_NUM_TX_QUEUES:       func(l *Link, v []byte) { l.Queues = int(number(v)) },
	unix.IFLA_PARENT_DEV_NAME:     func(l *Link, v []byte) { l.ParentDev = text(v) },
	unix.IFLA_PARENT_DEV_BUS_NAME: func(l *Link, v []byte) { l.ParentBus = text(v) },
	unix.IFLA_PROP_LIST:           (*Link).takeAltNames,
	unix.IFLA_AF_SPEC:             (*Link).takeFamilies,
}

func (l *Link) takeAltNames(v []byte) {
	each(v, func(_ int, name []byte) { l.AltNames = append(l.AltNames, text(name)) })
}

func (l *Link) takeFamilies(v []byte) {
	each(v, func(family int, spec []byte) {
		switch family {
		case unix.AF_INET:
			l.takeInet4(spec)
		case unix.AF_INET6:
			l.takeInet6(spec)
		}
	})
}

// takeInet4: the values of IFLA_INET_CONF are sent as one array, without the place 0.
func (l *Link) takeInet4(v []byte) {
	each(v, func(attr int, conf []byte) {
		if attr != iflaInetConf || len(conf) < 4*ipv4DevconfARPIgnore {
			return
		}
		at := func(i int) uint32 { return number(conf[4*(i-1):]) }
		l.ARPOfItsOwn = at(ipv4DevconfARPIgnore) == 1 && at(ipv4DevconfARPAnnounce) == 2
	})
}

func (l *Link) takeInfo(v []byte) {
	var data []byte
	each(v, func(attr int, v []byte) {
		switch attr {
		case unix.IFLA_INFO_KIND:
			l.Kind = text(v)
		case unix.IFLA_INFO_DATA:
			data = v
			l.Data = bytes.Clone(v)
		case unix.IFLA_INFO_SLAVE_KIND:
			l.PortKind = text(v)
		case unix.IFLA_INFO_SLAVE_DATA:
			l.PortData = bytes.Clone(v)
		}
	})
	if take := kindAttributes[l.Kind]; take != nil {
		each(data, func(attr int, v []byte) { take(l, attr, v) })
	}
}

// kindAttributes says where the attributes of a kind go that a Link has fields for.
var kindAttributes = map[string]func(l *Link, attr int, v []byte){
	"macvlan": (*Link).takeMacvlan, "macvtap": (*Link).takeMacvlan,
	"ipvlan": (*Link).takeIpvlan, "ipvtap": (*Link).takeIpvlan,
	"vlan": (*Link).takeVLAN,
	"bond": (*Link).takeBond,
}

func (l *Link) takeMacvlan(attr int, v []byte) {
	if attr == nl.IFLA_MACVLAN_MODE {
		l.Mode = macvlanModes[number(v)]
	}
}

func (l *Link) takeBond(attr int, v []byte) {
	if attr == nl.IFLA_BOND_MODE && len(v) > 0 && int(v[0]) < len(bondModes) {
		l.BondMode = bondModes[v[0]]
	}
}

// takeVLAN reads an attribute of a VLAN device; the protocol is in network order.
func (l *Link) takeVLAN(attr int, v []byte) {
	switch {
	case attr == nl.IFLA_VLAN_ID && len(v) >= 2:
		l.VLAN = int(nl.NativeEndian().Uint16(v))
	case attr == nl.IFLA_VLAN_PROTOCOL && len(v) >= 2:
		l.VLANProto = map[uint16]string{unix.ETH_P_8021Q: "802.1Q", unix.ETH_P_8021AD: "802.1ad"}[binary.BigEndian.Uint16(v)]
	}
}

func (l *Link) takeInet6(v []byte) {
	each(v, func(attr int, conf []byte) {
		if attr != unix.IFLA_INET6_CONF {
			return
		}
		at := func(i int) uint32 {
			if len(conf) < 4*(i+1) {
				return 0
			}
			return nl.NativeEndian().Uint32(conf[4*i:])
		}
		l.Inet6 = true
		l.IPv6 = at(devconfDisableIPv6) == 0
		l.AddrGenNone = at(devconfAddrGenMode) == addrGenModeNone
	})
}

// Each calls f for every attribute in b (Link.Data, Link.PortData), in the
// kernel's order, with its type and value; what is no attribute ends it.
func Each(b []byte, f func(attr int, value []byte)) { each(b, f) }

func each(b []byte, f func(attr int, value []byte)) {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return
	}
	for _, a := range attrs {
		f(int(a.Attr.Type&nl.NLA_TYPE_MASK), a.Value)
	}
}

func text(v []byte) string { return string(bytes.TrimRight(v, "\x00")) }

func number(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return nl.NativeEndian().Uint32(v)
}

// hardware copies an address; one of zeros only is none.
func hardware(v []byte) net.HardwareAddr {
	if len(bytes.Trim(v, "\x00")) == 0 {
		return nil
	}
	return bytes.Clone(v)
}
