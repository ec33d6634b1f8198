package policy

import "github.com/vmnetd/vmnetd"

// Decision is one NIC as policy grants it, with every reason.
type Decision struct {
	ID        string
	Network   string
	Uplink    string // name
	Ifname    string // the uplink's device
	VLAN      int    // of the uplink, on which the NIC stands; 0: on the uplink itself
	Mode      vmnetd.Mode
	MAC       string
	MACFrom   string // "derived", "asked for"
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
}

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
