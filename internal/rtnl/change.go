package rtnl

import (
	"context"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/netns"
)

// Attr is one attribute of a link message.
type Attr struct {
	Type  int
	Value []byte
	Nest  []Attr // attributes inside, instead of Value

	names *netns.NS // by its descriptor's number in Value
}

// NewLink is a device to be made, down.
type NewLink struct {
	Name   string
	Kind   string // macvtap, veth, bridge, …
	Lower  int    // ifindex of the lower device, 0 for none
	MAC    net.HardwareAddr
	MTU    int // bytes, 0: the kind's own
	Queues int // transmit and receive queues, 0: the kind's own
	Group  uint32
	Index  int    // ifindex to have, 0: the next one
	Data   []Attr // IFLA_INFO_DATA
}

// Create makes a device from one message. When ctx ends before the kernel is
// done, the device is deleted as soon as it is there. Errors are the kernel's
// (errors.Is with a unix.Errno) with its own words.
func (c *Conn) Create(ctx context.Context, n NewLink) error {
	attrs := []Attr{Name(n.Name)}
	add := func(wanted bool, a Attr) {
		if wanted {
			attrs = append(attrs, a)
		}
	}
	add(n.Lower != 0, Attr{Type: unix.IFLA_LINK, Value: nl.Uint32Attr(uint32(n.Lower))})
	add(n.MAC != nil, MAC(n.MAC))
	add(n.MTU != 0, MTU(n.MTU))
	add(n.Queues != 0, Attr{Type: unix.IFLA_NUM_TX_QUEUES, Value: nl.Uint32Attr(uint32(n.Queues))})
	add(n.Queues != 0, Attr{Type: unix.IFLA_NUM_RX_QUEUES, Value: nl.Uint32Attr(uint32(n.Queues))})
	add(n.Group != 0, Group(n.Group))
	info := []Attr{{Type: unix.IFLA_INFO_KIND, Value: nl.NonZeroTerminated(n.Kind)}}
	if n.Data != nil {
		info = append(info, Attr{Type: unix.IFLA_INFO_DATA, Nest: n.Data})
	}
	attrs = append(attrs, Attr{Type: unix.IFLA_LINKINFO, Nest: info})
	_, err := c.run(ctx, request{
		msg:   linkMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, Change{Index: n.Index, Attrs: attrs}),
		late:  func(ctx context.Context) { _ = c.DeleteName(ctx, n.Name) },
		names: named(attrs),
	})
	return err
}

// Change is a change of one link, sent as one message.
type Change struct {
	Index int
	Flags uint32 // IFF_* bits to have
	Mask  uint32 // which of them to change
	Attrs []Attr
}

// Set changes a link. Attributes of its kind, or of it as a port (Info,
// PortInfo), are heeded only in an RTM_NEWLINK that makes nothing; RTM_SETLINK
// leaves them out without a word (net/core/rtnetlink.c, do_setlink).
func (c *Conn) Set(ctx context.Context, ch Change) error {
	message := unix.RTM_SETLINK
	for _, a := range ch.Attrs {
		if a.Type == unix.IFLA_LINKINFO {
			message = unix.RTM_NEWLINK
		}
	}
	_, err := c.run(ctx, request{msg: linkMessage(message, 0, ch), names: named(ch.Attrs)})
	return err
}

// SetUp sets a link administratively up or down.
func (c *Conn) SetUp(ctx context.Context, index int, up bool) error {
	ch := Change{Index: index, Mask: unix.IFF_UP}
	if up {
		ch.Flags = unix.IFF_UP
	}
	return c.Set(ctx, ch)
}

// Delete deletes a link. Each costs 17 to 31 ms of waiting for RCU.
func (c *Conn) Delete(ctx context.Context, index int) error {
	_, err := c.run(ctx, request{msg: linkMessage(unix.RTM_DELLINK, 0, Change{Index: index})})
	return err
}

// DeleteName deletes the link with that name: for what was just made and has
// no known index yet.
func (c *Conn) DeleteName(ctx context.Context, name string) error {
	_, err := c.run(ctx, request{msg: linkMessage(unix.RTM_DELLINK, 0, Change{Attrs: []Attr{Name(name)}})})
	return err
}

// DeleteGroup deletes every link of a group at once (net/core/rtnetlink.c,
// rtnl_group_dellink): 1,000 take 0.2 s. It takes foreign links of that group
// too.
func (c *Conn) DeleteGroup(ctx context.Context, group uint32) error {
	_, err := c.run(ctx, request{msg: linkMessage(unix.RTM_DELLINK, 0, Change{Attrs: []Attr{Group(group)}})})
	return err
}

func linkMessage(kind, flags int, ch Change) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(ch.Index), ch.Flags, ch.Mask
	req.AddData(msg)
	for _, a := range ch.Attrs {
		req.AddData(a.encode())
	}
	return req
}

func (a Attr) encode() *nl.RtAttr {
	out := nl.NewRtAttr(a.Type, a.Value)
	for _, in := range a.Nest {
		out.AddChild(in.encode())
	}
	return out
}

// named is the namespaces that attributes name.
func named(attrs []Attr) (ns []*netns.NS) {
	for _, a := range attrs {
		if a.names != nil {
			ns = append(ns, a.names)
		}
		ns = append(ns, named(a.Nest)...)
	}
	return ns
}

// Attributes of a link, as rtnetlink(7) has them.

// Name is a link's name; a rename when the link is there.
func Name(name string) Attr { return Attr{Type: unix.IFLA_IFNAME, Value: nl.ZeroTerminated(name)} }

// MAC is a link's hardware address.
func MAC(mac net.HardwareAddr) Attr { return Attr{Type: unix.IFLA_ADDRESS, Value: mac} }

// MTU is in bytes.
func MTU(mtu int) Attr { return Attr{Type: unix.IFLA_MTU, Value: nl.Uint32Attr(uint32(mtu))} }

// Group is a link's group; 0 is the default one.
func Group(group uint32) Attr { return Attr{Type: unix.IFLA_GROUP, Value: nl.Uint32Attr(group)} }

// Alias is a link's ifalias. It is ignored in the message that makes a link.
func Alias(alias string) Attr { return Attr{Type: unix.IFLA_IFALIAS, Value: []byte(alias)} }

// Master makes the link a port of a bridge, bond or team; 0 takes it out.
func Master(index int) Attr {
	return Attr{Type: unix.IFLA_MASTER, Value: nl.Uint32Attr(uint32(index))}
}

// NetNS moves the link to a namespace.
func NetNS(ns *netns.NS) Attr {
	return Attr{Type: unix.IFLA_NET_NS_FD, Value: nl.Uint32Attr(uint32(ns.Fd())), names: ns}
}

// AddrGenNone stops IPv6 from making a link-local address on the link. In the
// message that makes a link it is refused (EAFNOSUPPORT): the IPv6 settings
// are not there yet.
func AddrGenNone() Attr {
	mode := Attr{Type: inet6AddrGenMode, Value: []byte{addrGenModeNone}}
	return Attr{Type: unix.IFLA_AF_SPEC, Nest: []Attr{{Type: unix.AF_INET6, Nest: []Attr{mode}}}}
}

// ARPOfItsOwn has a link answer ARP for addresses of its own alone, and ask with
// one of them (arp_ignore 1, arp_announce 2, ip-sysctl.rst). In the message that
// makes a link it is refused, as AddrGenNone is.
func ARPOfItsOwn() Attr {
	conf := []Attr{
		{Type: ipv4DevconfARPIgnore, Value: nl.Uint32Attr(1)},
		{Type: ipv4DevconfARPAnnounce, Value: nl.Uint32Attr(2)},
	}
	return Attr{Type: unix.IFLA_AF_SPEC, Nest: []Attr{{Type: unix.AF_INET, Nest: []Attr{{Type: iflaInetConf, Nest: conf}}}}}
}

// Info is IFLA_LINKINFO for a change of a link that is there: its kind and the
// attributes of that kind to change.
func Info(kind string, data []Attr) Attr {
	return Attr{Type: unix.IFLA_LINKINFO, Nest: []Attr{
		{Type: unix.IFLA_INFO_KIND, Value: nl.NonZeroTerminated(kind)},
		{Type: unix.IFLA_INFO_DATA, Nest: data},
	}}
}

// PortInfo is IFLA_LINKINFO for a change of a port: the kind of its master and
// the attributes of the port to change.
func PortInfo(masterKind string, data []Attr) Attr {
	return Attr{Type: unix.IFLA_LINKINFO, Nest: []Attr{
		{Type: unix.IFLA_INFO_SLAVE_KIND, Value: nl.NonZeroTerminated(masterKind)},
		{Type: unix.IFLA_INFO_SLAVE_DATA, Nest: data},
	}}
}

// VethPeer is the IFLA_INFO_DATA of a veth whose other end is made in a namespace,
// with more attributes where they are given (uapi/linux/veth.h, VETH_INFO_PEER).
func VethPeer(name string, ns *netns.NS, more ...Attr) []Attr {
	value := make([]byte, unix.SizeofIfInfomsg)
	for _, a := range append([]Attr{Name(name), NetNS(ns)}, more...) {
		value = append(value, a.encode().Serialize()...)
	}
	return []Attr{{Type: nl.VETH_INFO_PEER, Value: value, names: ns}}
}

// MacvlanMode is the IFLA_INFO_DATA of a macvlan or macvtap of that mode, by
// the name ip-link(8) has for it.
func MacvlanMode(mode string) []Attr {
	for number, name := range macvlanModes {
		if name == mode {
			return []Attr{{Type: nl.IFLA_MACVLAN_MODE, Value: nl.Uint32Attr(number)}}
		}
	}
	return nil
}

// Encode is attributes as the kernel sends and takes them: what Each reads.
func Encode(attrs []Attr) []byte {
	var b []byte
	for _, a := range attrs {
		b = append(b, a.encode().Serialize()...)
	}
	return b
}
