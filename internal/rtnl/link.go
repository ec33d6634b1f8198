package rtnl

import "net"

// Link is a network device as the kernel shows it (RTM_NEWLINK).
type Link struct {
	Index       int
	Name        string
	AltNames    []string
	Kind        string // IFLA_INFO_KIND: macvtap, bridge, veth, …; "" for a plain NIC
	Lower       int    // IFLA_LINK: ifindex of the lower device, 0 for none; a veth's peer is no lower device
	LowerHere   bool   // the lower device is in this namespace (no IFLA_LINK_NETNSID)
	Master      int    // IFLA_MASTER, 0 for none
	MAC         net.HardwareAddr
	PermMAC     net.HardwareAddr // IFLA_PERM_ADDRESS, nil where there is none
	MTU         int
	Up          bool   // IFF_UP
	Carrier     bool   // IFF_LOWER_UP
	Running     bool   // IFF_RUNNING: up, and the kernel has acted on the carrier; frames sent earlier are dropped
	AllMulti    bool   // IFF_ALLMULTI was asked for on this device
	Inet6       bool   // the device has IPv6 settings (the kernel has IPv6, and the MTU is at least 1280)
	IPv6        bool   // IPv6 is on: Inet6, and disable_ipv6 is 0
	AddrGenNone bool   // IPv6 makes no link-local address by itself (addrgenmode none)
	ARPOfItsOwn bool   // arp_ignore is 1 and arp_announce is 2
	Data        []byte // IFLA_INFO_DATA: the attributes of its kind, as they came; nil where there are none
	PortKind    string // IFLA_INFO_SLAVE_KIND: bond, team or bridge where the link is a port of one, "" otherwise
	PortData    []byte // IFLA_INFO_SLAVE_DATA: the attributes of a port, as they came
	Promisc     int    // IFLA_PROMISCUITY: how many users have set it promiscuous
	Alias       string
	Group       uint32
	Queues      int    // IFLA_NUM_TX_QUEUES
	Mode        string // mode of a macvlan or macvtap, by ip-link's name: bridge, vepa, private, passthru; of an ipvlan or ipvtap: l2, l3, l3s
	Flag        string // flag of an ipvlan's or ipvtap's lower device, by ip-link's name: bridge, private, vepa
	BondMode    string // mode of a bond, by the kernel's name: balance-alb, …
	VLAN        int    // of a VLAN device: its id (IFLA_VLAN_ID), 0 for other kinds
	VLANProto   string // of a VLAN device: 802.1Q or 802.1ad (IFLA_VLAN_PROTOCOL)
	ParentDev   string // name of the device behind the link on its bus, 0000:01:00.0 (since Linux 5.14)
	ParentBus   string // that bus: pci, virtio, usb, …
}
