package policy

import (
	"net/netip"

	"github.com/vmnetd/vmnetd"
)

// Pos is where an operator wrote something.
type Pos struct {
	File string
	Line int
	Col  int
}

// Set is what the operator allows: the policy part of a configuration, in
// clean types and with every reference resolved. The zero value allows nothing.
type Set struct {
	Defaults Grant
	Networks []Network
	Rules    []Rule                       // first match wins
	Uplinks  []string                     // names of all declared uplinks
	Limits   map[string]Limits            // by the uplink's name: what the switch behind it does not do
	Labels   map[string]map[string]string // VM name → its labels, from vms:
}

// Limits is what is declared of the switch port behind an uplink. It counts
// whatever the uplink was applied with: nothing of it is set in the kernel.
type Limits struct {
	MaxMACs   int // limits: {macs: …}; 0: no limit
	MaxMACsAt Pos
	NoHairpin bool // hairpin: false
	HairpinAt Pos
}

// Network is what an operator offers to VMs.
type Network struct {
	Name    string
	Uplinks []string           // in order of preference
	VLAN    int                // 1 to 4094: its NICs stand on this VLAN of the uplink, on a bridge it is the port's PVID; 0: on the uplink itself
	Trunk   []vmnetd.VLANRange // switched: VLANs that NICs send and receive tagged
	TrunkAt Pos
	Grant   Grant
	At      Pos
}

// Rule says which VM may have which networks. All its matchers must hold; an
// empty matcher holds for everything.
type Rule struct {
	VM       []string // globs as path.Match
	UUID     []string
	NIC      []string // globs over the NIC's id
	Label    map[string]string
	Networks []string // empty: all
	Deny     string   // a reason: whoever matches gets nothing
	Grant    Grant
	Text     string // the matcher in one line as the operator wrote it: vm: "db-*"
	At       Pos
}

// Grant is the keys that a rule, a network and the defaults share: the rule
// beats the network, the network beats the defaults, key by key; lists replace.
type Grant struct {
	Modes    []vmnetd.Mode // in order of preference, vmnetd.Auto among them; nil: not given
	ModesAt  Pos
	MTU      int // bytes; 0: not given (then the uplink's)
	MTUAt    Pos
	Queues   Queues
	QueuesAt Pos
	MACs     []string // mac: {allow: […]}: globs of MACs that a request may name; nil: not given (then any)
	MACsAt   Pos
	Link     string // LinkKeep, LinkFollow; "": not given (then LinkKeep)
	LinkAt   Pos

	MACChange   string // mac: {change: …}: ChangeDeny, ChangeAllow; "": not given (then ChangeDeny)
	MACChangeAt Pos

	IPs         IPs
	IPsAt       Pos
	MaxIPs      int // how many addresses are learned of one NIC; 0: not given (then DefaultMaxIPs)
	MaxIPsAt    Pos
	Filter      Filter
	Extra       Extra // what a guest may use beside its own MAC and addresses; of rules alone
	ExtraAt     Pos
	Bandwidth   Bandwidth
	InAt, OutAt Pos    // of Bandwidth's halves
	Port        Port   // switched: its port of the bridge
	Flag        string // l2, l3: FlagBridge, FlagPrivate, FlagVEPA; "": not given (then FlagBridge)
	FlagAt      Pos
	BCQueue     int // macvlan: {bcqueuelen: …}: broadcasts and multicasts that wait to be copied to guests; 0: not given (then the kernel's 1000)
	BCQueueAt   Pos
}

// DefaultMaxIPs is how many addresses are learned of one NIC.
const DefaultMaxIPs = 16

// Flags of a lower device of ipvlans (uapi/linux/if_link.h, IPVLAN_F_*).
const (
	FlagBridge  = "bridge"  // guests of one uplink reach each other
	FlagPrivate = "private" // they do not
	FlagVEPA    = "vepa"    // by the switch, if it sends frames back out of the port they came in by
)

// IPs is ips: where a NIC's addresses come from.
type IPs struct {
	Given  bool           // the key was written
	Learn  bool           // learned from what the guest sends and is leased
	Own    []netip.Addr   // the NIC has these
	Within []netip.Prefix // only within these may addresses be asked for or learned; none: anywhere
}

// Filter is filter: what is kept from leaving a guest. A nil field is not given.
type Filter struct {
	Spoof      *bool    // true: other sources than the NIC's own are dropped, and what only switches send (BPDU, LACPDU, VLAN tags)
	DHCPServer *bool    // true: answers of DHCP servers are dropped
	RA         *bool    // true: router advertisements are dropped
	Ethertypes []uint16 // only these may be sent; nil: not given (then any)
	Broadcast  int      // packets/s; 0: not given (then no limit)
	Multicast  int      // packets/s; 0: not given (then no limit)

	SpoofAt, DHCPServerAt, RAAt, EthertypesAt, BroadcastAt, MulticastAt Pos
}

// Extra is extra: sources that a rule allows beside the NIC's own.
type Extra struct {
	MACs []string       `json:"macs,omitempty"` // aa:bb:cc:dd:ee:ff
	IPs  []netip.Prefix `json:"ips,omitempty"`
}

// Rate is a rate with the burst that may exceed it.
type Rate struct {
	Bits  uint64 `json:"bits,omitempty"`  // bit/s; 0: no limit
	Burst uint32 `json:"burst,omitempty"` // bytes; 0: chosen by the rate
}

// Bandwidth is bandwidth: by direction, as the guest sees it. A zero field of a
// Rate is not given.
type Bandwidth struct {
	In  Rate `json:"in,omitzero"`  // to the guest
	Out Rate `json:"out,omitzero"` // from the guest
}

// Port is port: how a bridge's port of a switched NIC behaves. A nil field is not
// given.
type Port struct {
	Hairpin   *bool // frames may go back out of it (default: false)
	Isolated  *bool // it does not reach other isolated ports (default: false)
	Learning  *bool // the bridge learns MACs from it (default: true)
	BPDUGuard *bool // a BPDU from the guest shuts it (default: true)

	HairpinAt, IsolatedAt, LearningAt, BPDUGuardAt Pos
}

// What happens when a guest gives its NIC another MAC.
const (
	ChangeDeny  = "deny"  // nothing: the device keeps the MAC that was granted, and the guest is not heard
	ChangeAllow = "allow" // the device follows, and hears the groups that the guest has joined
)

// What a guest sees when its uplink has no carrier.
const (
	LinkKeep   = "keep"   // nothing: many guests drop static addresses with their link
	LinkFollow = "follow" // its own link goes down, and up again with the carrier
)

// Queues is a number of queue pairs: not given, auto (the VM's vCPUs, 8 at
// most) or a number.
type Queues struct {
	Given bool
	Auto  bool
	N     int
}
