package policy

import "github.com/vmnetd/vmnetd"

// Decision is one NIC as policy grants it, with every reason.
type Decision struct {
	ID        string
	Network   string
	Uplink    string // name
	Ifname    string // the uplink's device
	Mode      vmnetd.Mode
	MAC       string
	MACFrom   string // "derived", "asked for"
	MTU       int
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
}

// Rejected is an alternative and why it was not taken.
type Rejected struct {
	What    string `json:"what"` // "network v100", "mode private", "uplink eno1"
	Because string `json:"because"`
}
