package policy

import (
	"net/netip"

	"github.com/vmnetd/vmnetd"
)

// Facts is what the host looks like now; Decide reads nothing else.
type Facts struct {
	Uplinks     map[string]Uplink // by the uplink's name; an uplink that is not in it is absent
	VM          VM
	Taken       []string // ids of the VM's NICs that exist, apart from the one asked for
	Own         string   // ifname of the device that the NIC asked for already has, "" if none: it is no conflict
	VHost       bool
	VHostReason string // why there is no vhost-net
	MACSeed     string // what MACs derive from: the VM's UUID, or machine-id and name
	NameSeed    string // machine-id and name: what they derived from before the VM had a UUID
	Unknown     bool   // facts are not known (explain --file): nothing is unfit

	Netns     *Netns                  // the NIC is for this network namespace; nil: for a VM
	Held      map[netip.Addr][]Holder // addresses that attachments have; apart networks may use the same ones
	Lacking   map[vmnetd.Kind]string  // kinds that this kernel does not have, each with a sentence that says so
	HostLinks map[string]bool         // networks that this host has a link of its own to
}

// Holder is an attachment that has an address.
type Holder struct {
	Owner   string // VM/NIC, or HostLinkOwner and a network
	Claimed bool   // it was heard to use it, and nobody gave it: whoever is given it has it
	Network string
	Uplink  string
	VLAN    int
}

// Netns is the network namespace that an endpoint is for.
type Netns struct {
	Path    string
	Trusted bool // its root may be given a device on which no filter of ours can be kept
}

// VM is what the decision needs to know of the VM.
type VM struct {
	Name    string
	UUID    string
	NIC     string // the id asked for or chosen
	VCPUs   int    // 0: not known
	Where   string // how it was found, for explain: "qmp, running"
	Running bool
	Labels  map[string]string // of its own metadata, where those count; nil: none
}

// Uplink is the state of one uplink and of what stands on its device.
type Uplink struct {
	Present  bool
	Ifname   string
	Carrier  bool
	Up       bool
	MTU      int
	MAC      string
	Path     string         // how it reaches the outside, for explain: "team0 > eno1"
	Kind     string         // kind of the device, for explain
	BondMode string         // of the bond that it is, or stands on if that one rewrites guests' MACs; "" when there is none
	Master   string         // "" or whose port it is: then its rx handler is taken
	MasterBy string         // kind of Master: bridge, bond, team
	Users    []User         // devices that have it as their lower device
	Ports    []User         // of a bridge: devices of attachments that are its ports
	Hosts    []netip.Prefix // addresses of the host on it

	MaxMACs   int  // limits: {macs: …}: how many MACs the switch port takes, the uplink's own among them; 0: no limit
	NoHairpin bool // hairpin: false: the switch does not send frames back out of the port they came in by
	Wireless  bool // 802.11 carries frames of its own MAC alone
	PromiscAt int  // with so many MACs the device had to become promiscuous: its unicast filter was full; 0: never seen
	Filtering bool // of a bridge: it tells VLANs apart (vlan_filtering)

	// VLANs has the VLAN devices over it, by id: a VLAN device is a lower device
	// of its own, with its own users, MAC and MTU. One that is not there yet is
	// not in it.
	VLANs map[int]Uplink
	// NotApplied says that it is absent because it was declared and never
	// applied.
	NotApplied bool
}

// User is a device that stands on an uplink.
type User struct {
	Ifname string
	Kind   string
	Family vmnetd.Family
	Mode   vmnetd.Mode
	MAC    string
	Owner  string // VM/NIC, or HostLinkOwner and a network; "" when it is not ours
	Flag   string // of an ipvlan: FlagBridge, FlagPrivate, FlagVEPA
}

// HostLinkOwner begins the Owner of a host link's device; the network follows.
const HostLinkOwner = "host-link "
