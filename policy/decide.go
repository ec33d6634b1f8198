package policy

import (
	"net/netip"

	"github.com/vmnetd/vmnetd"
)

// Decision is one NIC as policy grants it, with every reason.
type Decision struct {
	ID        string
	Network   string
	Uplink    string // name
	Ifname    string // the uplink's device
	VLAN      int    // of the uplink, on which the NIC stands; switched: its PVID on the uplink itself; 0: none
	Mode      vmnetd.Mode
	MAC       string
	MACFrom   string // "derived", "asked for", "the uplink's: …"
	MACChange string // ChangeDeny, ChangeAllow
	MTU       int
	Link      string // LinkKeep, LinkFollow
	Queues    int
	QueuesBy  string // "its vCPUs", "asked for", FILE:LINE
	VHost     bool
	RuleAt    Pos
	RuleText  string
	NetworkAt Pos // where the network is written
	Reasons   []string
	Not       []Rejected
	Mind      []string // what the operator should mind
	Second    bool     // the uplink is not the network's first choice

	Kind      vmnetd.Kind
	Flag      string         // l2, l3
	BCQueue   int            // macvtap, macvlan; 0: the kernel's
	IPs       []netip.Prefix // /32 and /128 unless asked for otherwise
	Routes    []Route
	Learn     bool
	Within    []netip.Prefix // only these are learned; none: all
	MaxIPs    int
	Filter    Filtered
	Extra     Extra
	Bandwidth Bandwidth
	Port      Ported
	Trunk     []vmnetd.VLANRange
	Name      string // of the device in the namespace
}

// Route is a route in the namespace of an endpoint.
type Route struct {
	To  netip.Prefix
	Via netip.Addr // invalid: on the link
}

// Filtered is Filter after merging: what a NIC is kept from sending.
type Filtered struct {
	Spoof      bool     `json:"spoof"`
	DHCPServer bool     `json:"dhcp_server"`
	RA         bool     `json:"ra"`
	Ethertypes []uint16 `json:"ethertypes,omitempty"` // nil: any
	Broadcast  int      `json:"broadcast,omitempty"`  // packets/s; 0: no limit
	Multicast  int      `json:"multicast,omitempty"`  // packets/s; 0: no limit
}

// On says that anything is kept from being sent.
func (f Filtered) On() bool {
	return f.Spoof || f.DHCPServer || f.RA || f.Ethertypes != nil || f.Broadcast != 0 || f.Multicast != 0
}

// Ported is Port after merging.
type Ported struct{ Hairpin, Isolated, Learning, BPDUGuard bool }

// Decide gives one NIC of one VM what the rules allow and the host has room
// for. It is pure: the same request and facts give the same decision. The
// errors are those of the package's doc comment; with an error the Decision
// holds what was found until then and all of Not, for explain, and must not be
// carried out.
func (s *Set) Decide(req vmnetd.Request, f Facts) (Decision, error) {
	c := s.choose(req, f)
	return c.d, c.err
}

// Rejected is an alternative and why it was not taken.
type Rejected struct {
	What    string `json:"what"` // "network v100", "mode private", "uplink eno1"
	Because string `json:"because"`
}
