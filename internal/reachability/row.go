package reachability

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Row is one kind and mode of NIC with what surrounds it.
type Row struct {
	NIC     string // "ipvtap l2"
	Mode    vmnetd.Mode
	Outside *Node // a switch's other port; it advertises a prefix for SLAAC
	Host    *Node // this host, by its own address on the uplink
	Guests  []*Node

	Number   int
	endpoint bool // guests are network namespaces, not VMs
}

// newRow reads the name of a row of the table.
func newRow(nic string, number int) (*Row, error) {
	kind, word, _ := strings.Cut(nic, " ")
	mode, err := vmnetd.ParseMode(word)
	if err != nil {
		return nil, err
	}
	r := &Row{NIC: nic, Mode: mode, Number: number, endpoint: vmnetd.Kind(kind) == mode.Info().Endpoint}
	if vmnetd.Kind(kind) != mode.KindIn(r.endpoint) {
		return nil, fmt.Errorf("%s: mode %s has no %s", nic, mode, kind)
	}
	return r, nil
}

// Everything is every row that there can be.
func Everything() []string {
	var nics []string
	for _, endpoint := range []bool{false, true} {
		for _, name := range vmnetd.ModeNames() {
			mode := vmnetd.Mode(name)
			nics = append(nics, fmt.Sprintf("%s %s", mode.KindIn(endpoint), mode))
		}
	}
	return nics
}

// Last numbers of addresses.
const (
	outsideNumber = 1
	hostNumber    = 2
	guestNumber   = 10 // and the following
)

// node is a node of the row; its addresses are of 198.18.0.0/15 (RFC 2544) and
// 2001:db8::/32 (RFC 3849).
func (r *Row) node(name string, ns *testkit.Netns, device string, number byte) *Node {
	ip6 := r.Prefix().Addr().As16()
	ip6[7], ip6[15] = 0, number
	return &Node{Name: name, Netns: ns, Device: device, IP4: netip.AddrFrom4([4]byte{198, 18, byte(r.Number), number}), IP6: netip.AddrFrom16(ip6)}
}

// Prefix is what the peer outside advertises.
func (r *Row) Prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(r.Number), 0, 1}), bits6)
}

// uplink is the name of the row's uplink, which is also its network's.
func (r *Row) uplink() string { return fmt.Sprintf("up%d", r.Number) }

func (r *Row) bridge() string { return fmt.Sprintf("br%d", r.Number) }

// onBridge says whether the uplink is a bridge.
func (r *Row) onBridge() bool { return r.Mode.Info().Family == vmnetd.FamilyBridge }

// build makes the uplink on the host and what is behind it.
func (r *Row) build(t testkit.TB, host *testkit.Netns) {
	t.Helper()
	outside, far := testkit.NewNetns(t), "far0"
	allowPings(t, outside)
	outside.IPv6(t, false)
	outside.Create(t, rtnl.NewLink{Name: "sw", Kind: "bridge"})
	outside.SetUp(t, "sw")
	testkit.NewVeth(t, outside, far, outside, "sw-far")
	testkit.NewVeth(t, host, r.uplink(), outside, "sw-up")
	for _, port := range []string{"sw-far", "sw-up"} {
		outside.Set(t, port, rtnl.Master(outside.Link(t, "sw").Index))
	}
	sysctl(t, outside, "ipv6/conf/"+far+"/disable_ipv6=0")
	own := r.uplink()
	if r.onBridge() {
		own = r.bridge()
		host.Create(t, rtnl.NewLink{Name: own, Kind: "bridge"})
		host.SetUp(t, own)
		host.Set(t, r.uplink(), rtnl.Master(host.Link(t, own).Index))
	}
	r.Outside = r.node("outside", outside, far, outsideNumber)
	r.Host = r.node("host", host, own, hostNumber)
	r.Outside.configure(t)
	r.Host.configure(t)
	testkit.StartRouter(t, outside, far, r.Prefix())
}

// Room is how many guests the uplink has room for, two at most.
func (r *Row) Room() int {
	if r.Mode.Info().Exclusive {
		return 1
	}
	return 2
}

// routed has the peer outside send what is for these, which are an attachment's
// GuestSide, to this host.
func (r *Row) routed(t testkit.TB, routes []string) {
	t.Helper()
	for _, route := range routes {
		to, err := netip.ParsePrefix(route)
		if err != nil {
			t.Fatalf("%v", err)
		}
		r.Outside.route(t, to, r.Host)
	}
}

// config is the row's uplinks, networks and rules, each as items of a list.
func (r *Row) config() (uplink, network, rule string) {
	uplink = fmt.Sprintf("  - {name: %s, nic: {}}\n", r.uplink())
	if r.onBridge() {
		uplink = fmt.Sprintf("  - {name: %s, external: {match: {name: %s}}}\n", r.bridge(), r.bridge())
	}
	name := r.Host.Device
	return uplink,
		fmt.Sprintf("  - {name: %s, uplinks: [%s], modes: [%s]}\n", name, name, r.Mode),
		fmt.Sprintf("  - {vm: \"*\", networks: [%s], modes: [%s]}\n", name, r.Mode)
}
