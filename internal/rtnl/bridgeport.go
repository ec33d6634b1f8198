package rtnl

import (
	"context"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of a bridge (uapi/linux/if_link.h, IFLA_BR_*).
const (
	bridgeVLANFiltering   = 7
	bridgeVLANDefaultPVID = 39
)

// BridgeVLANs says of a bridge whether it tells VLANs apart, and the VLAN that a
// new port is put into untagged, 0 for none.
func (l Link) BridgeVLANs() (filtering bool, defaultPVID int) {
	each(l.Data, func(attr int, v []byte) {
		switch attr {
		case bridgeVLANFiltering:
			filtering = octet(v) != 0
		case bridgeVLANDefaultPVID:
			defaultPVID = int(short(v))
		}
	})
	return filtering && l.Kind == "bridge", defaultPVID
}

// BridgePort is how a link stands on its bridge, apart from VLANs (bridge(8) link).
type BridgePort struct {
	Hairpin   bool
	Isolated  bool
	Learning  bool
	BPDUGuard bool
}

// BridgePort reads a link as a port of a bridge; ok is false when it is none.
func (l Link) BridgePort() (p BridgePort, ok bool) {
	if l.PortKind != "bridge" {
		return BridgePort{}, false
	}
	each(l.PortData, func(attr int, v []byte) {
		for _, f := range p.flags() {
			if f.attr == attr {
				*f.value = octet(v) != 0
			}
		}
	})
	return p, true
}

// IsShut says that a link is a port that its bridge has disabled although it has a
// carrier, as BPDU guard does (net/bridge/br_stp_bpdu.c, br_stp_rcv). Setting it down
// and up opens it.
func (l Link) IsShut() bool {
	const disabled = 0 // BR_STATE_DISABLED (uapi/linux/if_bridge.h)
	state := byte(0xff)
	each(l.PortData, func(attr int, v []byte) {
		if attr == nl.IFLA_BRPORT_STATE {
			state = octet(v)
		}
	})
	return l.PortKind == "bridge" && state == disabled && l.Up && l.Running
}

// Attrs is for a change of a link as a port of a bridge (PortInfo).
func (p BridgePort) Attrs() []Attr {
	var attrs []Attr
	for _, f := range p.flags() {
		v := byte(0)
		if *f.value {
			v = 1
		}
		attrs = append(attrs, Attr{Type: f.attr, Value: []byte{v}})
	}
	return attrs
}

type portFlag struct {
	attr  int
	value *bool
}

func (p *BridgePort) flags() []portFlag {
	return []portFlag{
		{nl.IFLA_BRPORT_MODE, &p.Hairpin},
		{nl.IFLA_BRPORT_ISOLATED, &p.Isolated},
		{nl.IFLA_BRPORT_LEARNING, &p.Learning},
		{nl.IFLA_BRPORT_GUARD, &p.BPDUGuard},
	}
}

// PortVLAN is one VLAN that a port of a bridge is in.
type PortVLAN struct {
	ID       int
	PVID     bool // what comes in untagged is in it
	Untagged bool // what goes out of it has no tag
}

// Messages about VLANs of one port, and what is in them (Linux 5.6,
// uapi/linux/rtnetlink.h, uapi/linux/if_bridge.h: struct br_vlan_msg,
// BRIDGE_VLANDB_*, struct bridge_vlan_info).
const (
	rtmNewVLAN       = 112
	rtmGetVLAN       = 114
	vlanMsgSize      = 8
	vlanDBEntry      = 1 // BRIDGE_VLANDB_ENTRY
	vlanDBEntryInfo  = 1 // BRIDGE_VLANDB_ENTRY_INFO
	vlanDBEntryRange = 2 // BRIDGE_VLANDB_ENTRY_RANGE
)

// vlanMsg is struct br_vlan_msg.
type vlanMsg struct{ index int }

// Len is the struct's size in bytes.
func (vlanMsg) Len() int { return vlanMsgSize }

// Serialize is the struct as the kernel has it.
func (m vlanMsg) Serialize() []byte {
	b := make([]byte, vlanMsgSize)
	b[0] = unix.AF_BRIDGE
	nl.NativeEndian().PutUint32(b[4:], uint32(m.index))
	return b
}

// PortVLANs is the VLANs that a port of a bridge is in, by their number.
func (c *Conn) PortVLANs(ctx context.Context, index int) ([]PortVLAN, error) {
	get := func() *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(rtmGetVLAN, unix.NLM_F_DUMP)
		req.AddData(vlanMsg{index})
		return req
	}
	msgs, err := c.dump(ctx, get, rtmNewVLAN)
	if err != nil {
		return nil, err
	}
	var vlans []PortVLAN
	for _, m := range msgs {
		if len(m) < vlanMsgSize || int(nl.NativeEndian().Uint32(m[4:])) != index {
			continue
		}
		each(m[vlanMsgSize:], func(attr int, entry []byte) {
			if attr == vlanDBEntry {
				vlans = append(vlans, portVLANs(entry)...)
			}
		})
	}
	slices.SortFunc(vlans, func(a, b PortVLAN) int { return a.ID - b.ID })
	return vlans, nil
}

// portVLANs reads an entry: one VLAN, or a range of alike ones.
func portVLANs(entry []byte) (vlans []PortVLAN) {
	var flags uint16
	first, last := 0, 0
	each(entry, func(attr int, v []byte) {
		switch {
		case attr == vlanDBEntryInfo && len(v) >= 4:
			flags, first = short(v), int(short(v[2:]))
			last = max(last, first)
		case attr == vlanDBEntryRange:
			last = int(short(v))
		}
	})
	for id := first; id <= last && id > 0; id++ {
		vlans = append(vlans, PortVLAN{
			ID: id, PVID: flags&nl.BRIDGE_VLAN_INFO_PVID != 0, Untagged: flags&nl.BRIDGE_VLAN_INFO_UNTAGGED != 0,
		})
	}
	return vlans
}

// AddPortVLANs puts a port of a bridge into VLANs, or changes how it is in them.
func (c *Conn) AddPortVLANs(ctx context.Context, index int, vlans []PortVLAN) error {
	return c.changePortVLANs(ctx, unix.RTM_SETLINK, index, vlans)
}

// DelPortVLANs takes a port of a bridge out of VLANs.
func (c *Conn) DelPortVLANs(ctx context.Context, index int, vlans []PortVLAN) error {
	return c.changePortVLANs(ctx, unix.RTM_DELLINK, index, vlans)
}

// vlansAtOnce keeps a message of VLANs well under 64 KiB, the longest attribute.
const vlansAtOnce = 1000

func (c *Conn) changePortVLANs(ctx context.Context, kind, index int, vlans []PortVLAN) error {
	for part := range slices.Chunk(vlans, vlansAtOnce) {
		req := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(index)
		req.AddData(msg)
		spec := Attr{Type: unix.IFLA_AF_SPEC}
		for _, v := range part {
			spec.Nest = append(spec.Nest, v.attr())
		}
		req.AddData(spec.encode())
		if _, err := c.run(ctx, request{msg: req}); err != nil {
			return fmt.Errorf("VLAN %d to %d: %w", part[0].ID, part[len(part)-1].ID, err)
		}
	}
	return nil
}

// attr is the VLAN as struct bridge_vlan_info.
func (v PortVLAN) attr() Attr {
	var flags uint16
	if v.PVID {
		flags |= nl.BRIDGE_VLAN_INFO_PVID
	}
	if v.Untagged {
		flags |= nl.BRIDGE_VLAN_INFO_UNTAGGED
	}
	return Attr{Type: nl.IFLA_BRIDGE_VLAN_INFO, Value: append(nl.Uint16Attr(flags), nl.Uint16Attr(uint16(v.ID))...)}
}
