package rtnl

import "net"

// Link is a network device as the kernel shows it (RTM_NEWLINK).
type Link struct {
	Index     int
	Name      string
	Kind      string // IFLA_INFO_KIND: macvtap, bridge, veth, …; "" for a plain NIC
	Lower     int    // IFLA_LINK: ifindex of the lower device, 0 for none
	LowerHere bool   // the lower device is in this namespace (no IFLA_LINK_NETNSID)
	Master    int    // IFLA_MASTER, 0 for none
	MAC       net.HardwareAddr
	PermMAC   net.HardwareAddr // IFLA_PERM_ADDRESS, nil where there is none
	MTU       int
	Up        bool // IFF_UP
	Carrier   bool // IFF_LOWER_UP
	Alias     string
	Group     uint32
	Queues    int    // IFLA_NUM_TX_QUEUES
	Mode      string // mode of a macvlan or macvtap, by ip-link's name: bridge, vepa, private, passthru
	BondMode  string // mode of a bond, by the kernel's name: balance-alb, …
}
