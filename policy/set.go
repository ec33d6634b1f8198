package policy

import "github.com/vmnetd/vmnetd"

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
	Labels   map[string]map[string]string // VM name → its labels, from vms:
}

// Network is what an operator offers to VMs.
type Network struct {
	Name    string
	Uplinks []string // in order of preference
	VLAN    int      // 1 to 4094: its NICs stand on this VLAN of the uplink; 0: on the uplink itself
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
	Modes    []vmnetd.Mode // in order of preference; nil: not given
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
