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

// Kind is the kind of netdev that an attachment stands on.
type Kind string

// Kinds of netdev.
const (
	Macvtap Kind = "macvtap"
	Ipvtap  Kind = "ipvtap"
	Tap     Kind = "tap"
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
	Mode       Mode
	Kind       Kind
	Family     Family
	Exclusive  bool   // needs the lower device alone (drivers/net/macvlan.c)
	GuestSends string // nft netdev hook that sees what the guest sends
	NeedsIPs   bool   // delivers only what is addressed to a known IP
	HostSees   bool   // the host's own stack on the uplink reaches the guest
	Here       bool   // works in this version

	// Neighbours is how two guests of one uplink reach each other: "direct";
	// "reflected", if the switch sends frames back out of the port they came in
	// by; "unicast", as reflected but for broadcasts and multicasts, which are
	// dropped (drivers/net/macvlan.c: macvlan_handle_frame looks at the sender
	// of these alone); "alone", there is no other guest.
	Neighbours string
}

var modes = []ModeInfo{
	{Mode: Bridge, Kind: Macvtap, Family: FamilyMacvlan, GuestSends: "egress", Neighbours: "direct", Here: true},
	{Mode: VEPA, Kind: Macvtap, Family: FamilyMacvlan, GuestSends: "egress", Neighbours: "reflected", Here: true},
	{Mode: Private, Kind: Macvtap, Family: FamilyMacvlan, GuestSends: "egress", Neighbours: "unicast", Here: true},
	{Mode: Passthru, Kind: Macvtap, Family: FamilyMacvlan, Exclusive: true, GuestSends: "egress", Neighbours: "alone", Here: true},
	{Mode: L2, Kind: Ipvtap, Family: FamilyIpvlan, GuestSends: "egress", NeedsIPs: true, Neighbours: "direct"},
	{Mode: L3, Kind: Ipvtap, Family: FamilyIpvlan, GuestSends: "egress", NeedsIPs: true, Neighbours: "direct"},
	{Mode: Switched, Kind: Tap, Family: FamilyBridge, GuestSends: "ingress", HostSees: true, Neighbours: "direct"},
}

var modeAliases = map[string]Mode{"passthrough": Passthru} // libvirt's word

// ParseMode reads a mode as people write it. It fails with ErrInvalid for an
// unknown mode and for one that this version cannot do.
func ParseMode(s string) (Mode, error) {
	m, ok := modeAliases[s]
	if !ok {
		m = Mode(s)
	}
	info, known := m.lookup()
	switch {
	case !known:
		return "", Errorf(ErrInvalid, "unknown mode %q", s).WithNext("modes are " + strings.Join(ModeNames(), ", "))
	case !info.Here:
		return "", Errorf(ErrInvalid, "mode %s: not in this version", s).WithNext("modes are " + strings.Join(ModeNames(), ", "))
	}
	return m, nil
}

// ModeNames lists the modes of this version in the table's order.
func ModeNames() []string {
	var names []string
	for _, i := range modes {
		if i.Here {
			names = append(names, string(i.Mode))
		}
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

// WithKind names kind and mode as they are printed to people: "macvtap bridge".
func (m Mode) WithKind() string { return strings.TrimSpace(string(m.Info().Kind) + " " + string(m)) }
