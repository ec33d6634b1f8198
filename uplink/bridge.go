package uplink

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink/nl"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// parameter is one of a bridge's or of a bridge port's, by its name in
// /sys/class/net/BRIDGE/bridge or /sys/class/net/PORT/brport.
type parameter struct {
	name string
	attr int
	size int  // bytes
	big  bool // in network order
}

// bridgeTable is all that a bridge can be told (uapi/linux/if_link.h,
// IFLA_BR_*), in an order in which the kernel takes it: timers are checked
// against each other only while STP is on.
var bridgeTable = []parameter{
	{name: "forward_delay", attr: 1, size: 4},
	{name: "hello_time", attr: 2, size: 4},
	{name: "max_age", attr: 3, size: 4},
	{name: "ageing_time", attr: 4, size: 4},
	{name: "stp_state", attr: 5, size: 4},
	{name: "priority", attr: 6, size: 2},
	{name: "vlan_protocol", attr: 8, size: 2, big: true},
	{name: "vlan_filtering", attr: 7, size: 1},
	{name: "default_pvid", attr: 39, size: 2},
	{name: "vlan_stats_enabled", attr: 41, size: 1},
	{name: "group_fwd_mask", attr: 9, size: 2},
	{name: "multicast_router", attr: 22, size: 1},
	{name: "multicast_snooping", attr: 23, size: 1},
	{name: "multicast_query_use_ifaddr", attr: 24, size: 1},
	{name: "multicast_querier", attr: 25, size: 1},
	{name: "hash_max", attr: 27, size: 4},
	{name: "multicast_last_member_count", attr: 28, size: 4},
	{name: "multicast_startup_query_count", attr: 29, size: 4},
	{name: "multicast_last_member_interval", attr: 30, size: 8},
	{name: "multicast_membership_interval", attr: 31, size: 8},
	{name: "multicast_querier_interval", attr: 32, size: 8},
	{name: "multicast_query_interval", attr: 33, size: 8},
	{name: "multicast_query_response_interval", attr: 34, size: 8},
	{name: "multicast_startup_query_interval", attr: 35, size: 8},
	{name: "multicast_stats_enabled", attr: 42, size: 1},
	{name: "multicast_igmp_version", attr: 43, size: 1},
	{name: "multicast_mld_version", attr: 44, size: 1},
	{name: "nf_call_iptables", attr: 36, size: 1},
	{name: "nf_call_ip6tables", attr: 37, size: 1},
	{name: "nf_call_arptables", attr: 38, size: 1},
}

// bridgePortTable is all that a port of a bridge can be told (IFLA_BRPORT_*).
var bridgePortTable = []parameter{
	{name: "priority", attr: 2, size: 2},
	{name: "path_cost", attr: 3, size: 4},
	{name: "hairpin_mode", attr: 4, size: 1},
	{name: "bpdu_guard", attr: 5, size: 1},
	{name: "root_block", attr: 6, size: 1},
	{name: "multicast_fast_leave", attr: 7, size: 1},
	{name: "learning", attr: 8, size: 1},
	{name: "unicast_flood", attr: 9, size: 1},
	{name: "proxyarp", attr: 10, size: 1},
	{name: "proxyarp_wifi", attr: 12, size: 1},
	{name: "multicast_router", attr: 25, size: 1},
	{name: "multicast_flood", attr: 27, size: 1},
	{name: "multicast_to_unicast", attr: 28, size: 1},
	{name: "vlan_tunnel", attr: 29, size: 1},
	{name: "broadcast_flood", attr: 30, size: 1},
	{name: "group_fwd_mask", attr: 31, size: 2},
	{name: "neigh_suppress", attr: 32, size: 1},
	{name: "isolated", attr: 33, size: 1},
}

// readParameters is what data says, as decimal numbers.
func readParameters(table []parameter, data []byte) map[string]string {
	out := map[string]string{}
	rtnl.Each(data, func(attr int, v []byte) {
		for _, p := range table {
			if p.attr == attr && len(v) >= p.size {
				out[p.name] = strconv.FormatUint(p.decode(v), 10)
			}
		}
	})
	return out
}

func (p parameter) order() binary.ByteOrder {
	if p.big {
		return binary.BigEndian
	}
	return nl.NativeEndian()
}

func (p parameter) decode(v []byte) uint64 {
	switch p.size {
	case 1:
		return uint64(v[0])
	case 2:
		return uint64(p.order().Uint16(v))
	case 4:
		return uint64(p.order().Uint32(v))
	}
	return p.order().Uint64(v)
}

func (p parameter) encode(text string) (rtnl.Attr, error) {
	n, err := strconv.ParseUint(text, 10, 8*p.size)
	if err != nil {
		return rtnl.Attr{}, vmnetd.Errorf(vmnetd.ErrInvalid, "%s takes a number, not %s", p.name, vmnetd.Printable(text))
	}
	v := make([]byte, p.size)
	switch p.size {
	case 1:
		v[0] = byte(n)
	case 2:
		p.order().PutUint16(v, uint16(n))
	case 4:
		p.order().PutUint32(v, uint32(n))
	case 8:
		p.order().PutUint64(v, n)
	}
	return rtnl.Attr{Type: p.attr, Value: v}, nil
}

// attrs is options as attributes, in the table's order.
func attrs(table []parameter, options map[string]string) ([]rtnl.Attr, error) {
	out := []rtnl.Attr{}
	known := 0
	for _, p := range table {
		text, given := options[p.name]
		if !given {
			continue
		}
		known++
		a, err := p.encode(text)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if known < len(options) {
		names := slices.Sorted(maps.Keys(options))
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "not all of %v are parameters of a bridge", names)
	}
	return out, nil
}

// setBridge writes parameters one by one: an error names the one.
func (k *kernel) setBridge(ctx context.Context, l rtnl.Link, options map[string]string) error {
	all, err := attrs(bridgeTable, options)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.Info(kindBridge, []rtnl.Attr{a})}}); err != nil {
			return fmt.Errorf("cannot set %s of %s: %w", parameterName(bridgeTable, a.Type), l.Name, err)
		}
	}
	return nil
}

func parameterName(table []parameter, attr int) string {
	i := slices.IndexFunc(table, func(p parameter) bool { return p.attr == attr })
	return table[i].name
}

// filters says whether a bridge tells VLANs apart.
func filters(bridge rtnl.Link) (on bool) {
	const vlanFiltering = 7 // IFLA_BR_VLAN_FILTERING
	rtnl.Each(bridge.Data, func(attr int, v []byte) { on = on || attr == vlanFiltering && len(v) == 1 && v[0] != 0 })
	return on
}
