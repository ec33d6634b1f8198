package uplink

import (
	"net"
	"net/netip"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// Spec is an uplink as declared. Exactly one of Bond, Team, VLAN, Bridge and
// Anchor is set for those kinds, none for nic and external.
type Spec struct {
	Name   string           `json:"name"`
	Kind   string           `json:"kind"`             // one of vmnetd.Uplink…
	Device string           `json:"device,omitempty"` // nic, external: match by device name ("" when matched otherwise); Name where no match is given
	MAC    net.HardwareAddr `json:"mac,omitempty"`    // nic, external: match by permanent MAC
	Path   string           `json:"path,omitempty"`   // nic, external: match by path: ID_PATH's form pci-0000:01:00.0
	MTU    int              `json:"mtu,omitempty"`    // bytes, 0: as it is
	Probe  netip.Addr       `json:"probe,omitzero"`   // an address that must answer after an apply; invalid: none
	At     string           `json:"at,omitempty"`     // FILE:LINE

	// MaxMACs and NoHairpin are said of the switch behind it, for the choice of
	// modes: no device has them, so they are no part of a plan and no drift.
	MaxMACs   int  `json:"max_macs,omitempty"`   // how many MACs the switch port takes, the uplink's own among them; 0: no limit
	NoHairpin bool `json:"no_hairpin,omitempty"` // the switch does not send frames back out of the port they came in by

	Bond   *bonding.Config `json:"bond,omitempty"`
	Team   *teaming.Config `json:"team,omitempty"`
	VLAN   *VLAN           `json:"vlan,omitempty"`
	Bridge *Bridge         `json:"bridge,omitempty"`
	Anchor *Anchor         `json:"anchor,omitempty"`
}

// Ours says that vmnetd makes the device, so that it can be applied, changed
// and rolled back. A nic is ours only in its MTU and in being up.
func (s Spec) Ours() bool { return s.Kind != vmnetd.UplinkExternal }

// VLAN is a VLAN device (IEEE 802.1Q clause 9, net/8021q).
type VLAN struct {
	Over     string `json:"over"`               // name of an uplink
	ID       int    `json:"id"`                 // 1 to 4094
	Protocol string `json:"protocol,omitempty"` // 802.1Q (default), 802.1ad
}

// Bridge is a Linux bridge (net/bridge).
type Bridge struct {
	Ports         []string `json:"ports"` // names of uplinks or devices
	VLANFiltering bool     `json:"vlan_filtering,omitempty"`
	STP           bool     `json:"stp,omitempty"`
	AgeingTime    int      `json:"ageing_time,omitempty"` // s; 0: the kernel's 300
}

// Anchor is an active-backup bond over other uplinks, the preferred one first.
type Anchor struct {
	Over []string `json:"over"` // names of uplinks
}

// Under is the names of what the uplink stands on, in the order declared: ports,
// members, or the lower device of a VLAN; none for nic and external.
func (s Spec) Under() []string {
	var names []string
	switch {
	case s.Bond != nil:
		for _, p := range s.Bond.Ports {
			names = append(names, p.Name)
		}
	case s.Team != nil:
		for _, p := range s.Team.Ports {
			names = append(names, p.Name)
		}
	case s.VLAN != nil:
		names = []string{s.VLAN.Over}
	case s.Bridge != nil:
		names = s.Bridge.Ports
	case s.Anchor != nil:
		names = s.Anchor.Over
	}
	return names
}

// OnVLAN is a VLAN device over an uplink, which is a lower device of its own.
type OnVLAN struct {
	ID     int
	Link   rtnl.Link
	Users  []rtnl.Link    // devices that have it as their lower device
	Master rtnl.Link      // whose port it is, zero when none
	Hosts  []netip.Prefix // addresses of the host on it
}

// State is a declared uplink as it is now.
type State struct {
	Spec      Spec
	Present   bool
	Link      rtnl.Link      // of the device; zero when absent
	Users     []rtnl.Link    // devices that have it as their lower device
	Master    rtnl.Link      // whose port it is, zero when none
	Hosts     []netip.Prefix // addresses of the host on it
	VLANs     []OnVLAN       // 802.1Q devices over it
	Filtering bool           // of a bridge: it tells VLANs apart (vlan_filtering)
	BondMode  string         // of the bond that it is, or stands on if that one rewrites guests' MACs; "" when there is none
	Problem   string         // "" or one sentence: absent, down, no carrier, renamed, …

	// Wireless says that it is a station of 802.11, whose access point takes frames
	// of its own MAC alone (IEEE 802.11 9.2.4.1.4: three addresses).
	Wireless bool
}
