package vmnetd

import "strings"

// Mode is how frames travel between a guest, its neighbours and the outside.
type Mode string

// Modes, named as the kernel and ip-link(8) name them.
const (
	Bridge   Mode = "bridge"
	VEPA     Mode = "vepa"
	Private  Mode = "private"
	Passthru Mode = "passthru"
	L2       Mode = "l2"
	L3       Mode = "l3"
	Switched Mode = "switched"
)

// Auto stands in the modes of a grant: what the uplink's facts say decides among
// AutoModes. It is no mode that can be asked for.
const Auto Mode = "auto"

// AutoModes is what auto chooses from. The first that fits is taken, unless the
// uplink's facts speak against it and a later one fits. Not l3, whose addresses
// have to be routed to this host by somebody.
var AutoModes = []Mode{Bridge, L2}

// AutoOnBridge is what auto chooses on an uplink that is a bridge.
var AutoOnBridge = []Mode{Switched, Bridge}

// Kind is the kind of netdev that an attachment stands on.
type Kind string

// Kinds of netdev.
const (
	Macvtap Kind = "macvtap"
	Ipvtap  Kind = "ipvtap"
	Tap     Kind = "tap"
	Macvlan Kind = "macvlan"
	Ipvlan  Kind = "ipvlan"
	Veth    Kind = "veth"
)

// Family is what occupies the one rx handler of a lower device
// (net/core/dev.c, netdev_rx_handler_register).
type Family string

// Families.
const (
	FamilyMacvlan Family = "macvlan"
	FamilyIpvlan  Family = "ipvlan"
	FamilyBridge  Family = "bridge"
)

var families = map[string]Family{
	"macvlan": FamilyMacvlan, "macvtap": FamilyMacvlan,
	"ipvlan": FamilyIpvlan, "ipvtap": FamilyIpvlan,
	"bridge": FamilyBridge,
}

// FamilyOf is the family of a kind of link (IFLA_INFO_KIND), "" for kinds that
// leave the rx handler of their lower device alone, such as vlan.
func FamilyOf(kind string) Family { return families[kind] }

// ModeInfo is one row of the table of modes: the only place that knows what a
// mode means.
type ModeInfo struct {
	Mode      Mode
	Kind      Kind // of the device under a VM's NIC
	Endpoint  Kind // of the device that a network namespace gets
	Family    Family
	Exclusive bool // needs the lower device alone (drivers/net/macvlan.c)

	// GuestSends is the nft netdev hook on a VM's device that sees what the guest
	// sends; EndpointSends the one on the host's side of an endpoint, "" where the
	// only device is in the hands of the namespace's root.
	GuestSends    string
	EndpointSends string

	NeedsIPs  bool // delivers only what is addressed to a known IP
	SharesMAC bool // guests have the uplink's MAC, and lower devices have one mode for all (drivers/net/ipvlan)
	Moves     bool // the device of a VM lives in vmnetd's own network namespace
	Routed    bool // the host's routing table and output chain decide where frames go
	HostSees  bool // the host's own stack on the uplink reaches the guest

	// Neighbours is how two guests of one uplink reach each other: "direct";
	// "reflected", if the switch sends frames back out of the port they came in
	// by; "unicast", as reflected but for broadcasts and multicasts, which are
	// dropped (drivers/net/macvlan.c: macvlan_handle_frame looks at the sender
	// of these alone); "alone", there is no other guest.
	Neighbours string
}

var modes = []ModeInfo{
	{Mode: Bridge, Kind: Macvtap, Endpoint: Macvlan, Family: FamilyMacvlan, GuestSends: "egress", Neighbours: "direct"},
	{Mode: VEPA, Kind: Macvtap, Endpoint: Macvlan, Family: FamilyMacvlan, GuestSends: "egress", Neighbours: "reflected"},
	{Mode: Private, Kind: Macvtap, Endpoint: Macvlan, Family: FamilyMacvlan, GuestSends: "egress", Neighbours: "unicast"},
	{Mode: Passthru, Kind: Macvtap, Endpoint: Macvlan, Family: FamilyMacvlan, Exclusive: true, GuestSends: "egress", Neighbours: "alone"},
	{Mode: L2, Kind: Ipvtap, Endpoint: Ipvlan, Family: FamilyIpvlan, GuestSends: "egress", NeedsIPs: true, SharesMAC: true, Moves: true, Neighbours: "direct"},
	{Mode: L3, Kind: Ipvtap, Endpoint: Ipvlan, Family: FamilyIpvlan, GuestSends: "egress", NeedsIPs: true, SharesMAC: true, Moves: true, Routed: true, Neighbours: "direct"},
	{Mode: Switched, Kind: Tap, Endpoint: Veth, Family: FamilyBridge, GuestSends: "ingress", EndpointSends: "ingress", HostSees: true, Neighbours: "direct"},
}

var modeAliases = map[string]Mode{"passthrough": Passthru} // libvirt's word

// ParseMode reads a mode as people write it. It fails with ErrInvalid for an
// unknown mode and for l3s, which no guest can use.
func ParseMode(s string) (Mode, error) {
	m, ok := modeAliases[s]
	if !ok {
		m = Mode(s)
	}
	switch _, known := m.lookup(); {
	case s == "l3s":
		return "", Errorf(ErrInvalid, "mode l3s gives what arrives to this host's own stack, never to a guest (drivers/net/ipvlan/ipvlan_l3s.c)").
			WithNext("use l3, or l2")
	case !known:
		return "", Errorf(ErrInvalid, "unknown mode %q", s).WithNext("modes are " + strings.Join(ModeNames(), ", "))
	}
	return m, nil
}

// ModeNames lists the modes in the table's order.
func ModeNames() []string {
	var names []string
	for _, i := range modes {
		names = append(names, string(i.Mode))
	}
	return names
}

// Info is the mode's row of the table; the zero row for an unknown mode.
func (m Mode) Info() ModeInfo {
	i, _ := m.lookup()
	return i
}

func (m Mode) lookup() (ModeInfo, bool) {
	for _, i := range modes {
		if i.Mode == m {
			return i, true
		}
	}
	return ModeInfo{}, false
}

// KindIn is the kind of device for whoever is reached that way: an endpoint for
// a network namespace, a tap device for a VM.
func (m Mode) KindIn(netns bool) Kind {
	if netns {
		return m.Info().Endpoint
	}
	return m.Info().Kind
}

// Sends is the nft netdev hook that sees what is sent by whoever has a device of
// that kind in this mode; "" where no hook of the host's does.
func (m Mode) Sends(kind Kind) string {
	if kind == m.Info().Endpoint {
		return m.Info().EndpointSends
	}
	return m.Info().GuestSends
}

// WithKind names kind and mode as they are printed to people: "macvtap bridge".
func (m Mode) WithKind() string { return strings.TrimSpace(string(m.Info().Kind) + " " + string(m)) }
