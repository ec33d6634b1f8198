package vmnetd

import "time"

// Kinds of uplink.
const (
	UplinkNIC      = "nic"
	UplinkExternal = "external" // somebody else's: watched, used, never changed
	UplinkBond     = "bond"
	UplinkTeam     = "team"
	UplinkVLAN     = "vlan"
	UplinkBridge   = "bridge"
	UplinkAnchor   = "anchor" // an active-backup bond that stays while what is under it is replaced
)

// States of an uplink.
const (
	StateUp         = "up"
	StateDegraded   = "degraded" // carries traffic, but something that is configured is missing
	StateNoCarrier  = "no-carrier"
	StateDown       = "down"
	StateAbsent     = "absent"
	StateNotApplied = "not-applied" // declared, never applied, and no such device is there
)

// UplinkState is an uplink as `status` and D-Bus show it.
type UplinkState struct {
	Name      string        `json:"name"`
	Kind      string        `json:"kind"` // one of the Uplink… constants
	Ifname    string        `json:"ifname"`
	Ifindex   int           `json:"ifindex"` // 0 while the device is absent
	MAC       string        `json:"mac"`
	MTU       int           `json:"mtu"`
	State     string        `json:"state"` // one of the State… constants
	Path      string        `json:"path"`  // how frames reach the outside now: "team0 > eno1"; "" for a plain NIC
	Ports     []string      `json:"ports"` // device names of its ports, or of what it stands on
	Guests    int           `json:"guests"`
	Problem   string        `json:"problem"`
	Since     time.Time     `json:"since"`      // of the last change of state, path or ports
	Last      string        `json:"last"`       // that change in a few words: "failover eno2 -> eno1"
	Drift     []string      `json:"drift"`      // differences from what was applied, a sentence each
	Drained   []string      `json:"drained"`    // ports kept off the active path
	HeldUntil time.Time     `json:"held_until"` // not converged before that; zero: not held
	Pinned    string        `json:"pinned"`     // the member that an anchor was moved to by hand, "" for auto
	Announced *Announcement `json:"announced"`  // of the last change of path, nil when there was none
	Bond      *BondState    `json:"bond"`       // of bonds and anchors
	Team      *TeamState    `json:"team"`       // of teams
}

// Announcement is what was told to the switches after the path changed.
type Announcement struct {
	At     time.Time `json:"at"`       // when the change was seen
	Guests int       `json:"guests"`   // addresses announced in the first round
	Of     int       `json:"of"`       // addresses that had to be
	TookUs int64     `json:"took_us"`  // from the change to the last frame of the first round, µs
	FirstU int64     `json:"first_us"` // from the change to the first frame, µs
	Why    string    `json:"why"`      // "failover eno2 -> eno1"
}

// BondState is a bond as the kernel has it (Documentation/networking/bonding.rst).
type BondState struct {
	Mode        string            `json:"mode"`
	ActivePort  string            `json:"active_port"` // "" in modes that have none
	Options     map[string]string `json:"options"`     // every option of the mode by the kernel's name
	Aggregator  *Aggregator       `json:"aggregator"`  // 802.3ad: the active one
	Ports       []BondPort        `json:"ports"`
	ActiveSince time.Time         `json:"-"`
}

// Aggregator is a link aggregation group (IEEE 802.1AX 6.3.6).
type Aggregator struct {
	ID         int    `json:"id"`
	Ports      int    `json:"ports"`
	ActorKey   int    `json:"actor_key"`
	PartnerKey int    `json:"partner_key"`
	PartnerMAC string `json:"partner_mac"` // all zero: nobody answers
}

// BondPort is a port of a bond.
type BondPort struct {
	Name         string   `json:"name"`
	State        string   `json:"state"` // active, backup
	MII          string   `json:"mii"`   // up, going down, down, going back
	LinkFailures int      `json:"link_failures"`
	PermMAC      string   `json:"perm_mac"`
	QueueID      int      `json:"queue_id"`
	Prio         int      `json:"prio"` // kernels since 6.0
	Aggregator   int      `json:"aggregator"`
	Actor        []string `json:"actor"`         // port state in the words of 802.1AX 6.4.2.3: activity, aggregation, …
	Partner      []string `json:"partner"`       //
	ActorChurn   string   `json:"actor_churn"`   // none, monitoring, churned; "" outside 802.3ad
	PartnerChurn string   `json:"partner_churn"` //
}

// TeamState is a team as teamd and the kernel have it.
type TeamState struct {
	Runner     string     `json:"runner"`
	ActivePort string     `json:"active_port"` // "" with runners that have none
	Controller string     `json:"controller"`  // running, gone, silent (does not answer)
	Ours       bool       `json:"ours"`        // started or taken over by vmnetd: only then it is ever stopped or started
	PID        int        `json:"pid"`         // of teamd, 0 when it is not running
	Ports      []TeamPort `json:"ports"`
	LACP       *TeamLACP  `json:"lacp"` // runner lacp
}

// TeamLACP is what the lacp runner says of the whole team.
type TeamLACP struct {
	Active       bool   `json:"active"`
	FastRate     bool   `json:"fast_rate"`
	SysPrio      int    `json:"sys_prio"`
	SelectPolicy string `json:"agg_select_policy"`
}

// TeamPort is a port of a team.
type TeamPort struct {
	Name       string      `json:"name"`
	Link       bool        `json:"link"` // as the link watches judge it
	Speed      int         `json:"speed"`
	Duplex     string      `json:"duplex"`
	DownCount  int         `json:"down_count"`
	Prio       int         `json:"prio"`
	Sticky     bool        `json:"sticky"`
	QueueID    int         `json:"queue_id"` // -1: none
	Watches    []TeamWatch `json:"watches"`
	Aggregator int         `json:"aggregator"` // lacp; 0: none selected
	Selected   bool        `json:"selected"`   //
	LACPState  string      `json:"lacp_state"` // current, expired, defaulted, disabled
	Actor      []string    `json:"actor"`      // port state in the words of 802.1AX
	Partner    []string    `json:"partner"`    //
	PartnerMAC string      `json:"partner_mac"`
}

// TeamWatch is the result of one link watch of a port.
type TeamWatch struct {
	Name string `json:"name"` // ethtool, arp_ping, nsna_ping
	Up   bool   `json:"up"`
	Down int    `json:"down_count"`
}

// Plan is what `uplink plan` shows: the difference between what is and what is
// declared.
type Plan struct {
	From     string       `json:"from"`  // where the wanted state is written
	Never    bool         `json:"never"` // nothing was ever applied here
	Changes  []PlanChange `json:"changes"`
	Cost     []string     `json:"cost"`     // what it costs host and guests, a sentence each
	Mind     []string     `json:"mind"`     // what is good to know: DHCP addresses that are not moved, …
	Problems []Check      `json:"problems"` // why it would be refused; empty: it can be applied
	Pending  *Applied     `json:"pending"`  // an apply that waits to be confirmed
}

// Empty says that there is nothing to apply.
func (p Plan) Empty() bool { return len(p.Changes) == 0 }

// PlanChange is one line of a plan with what hangs on it.
type PlanChange struct {
	Op     string   `json:"op"` // "+" made, "~" changed, "-" removed, ">" moved
	Name   string   `json:"name"`
	Kind   string   `json:"kind"`
	Text   string   `json:"text"`   // one line
	Detail []string `json:"detail"` // further lines: options, MAC, MTU
	Needs  string   `json:"needs"`  // live, down, no-ports, restart, new
	Impact string   `json:"impact"` // "3 guests lose link for about 1 s", "" when nobody notices
}

// ApplyOptions says how a plan is applied.
type ApplyOptions struct {
	ConfirmWithin time.Duration `json:"confirm_within"` // rolled back after that unless confirmed; 0: 60 s
	NoConfirm     bool          `json:"no_confirm"`     // it stays
	Force         bool          `json:"force"`          // also when the host would be cut off by the next boot
	Uplinks       []string      `json:"uplinks"`        // these alone and what they stand on; none: all
}

// Applied is an apply: what it did and whether it waits to be confirmed.
type Applied struct {
	ID      string    `json:"id"` // "" when there was nothing to do
	At      time.Time `json:"at"`
	Until   time.Time `json:"until"` // rolled back then unless confirmed; zero: it stays
	Done    []string  `json:"done"`  // what was done, a sentence each
	Changed bool      `json:"changed"`
}

// TeamRequest is one `vmnetd team` verb on a team.
type TeamRequest struct {
	Op        string `json:"op"`        // config, config-actual, state, get, set, port-present, port-config, set-port-config, port-add, port-remove
	Port      string `json:"port"`      // device
	Item      string `json:"item"`      // path of a state item, as teamdctl(8): setup.runner_name
	Value     string `json:"value"`     // of the item, or a port's configuration as JSON
	Temporary bool   `json:"temporary"` // of a declared team: until it is put right by uplink apply
}

// Conversion is what `vmnetd convert` shows: the equivalent of a team as a bond,
// or of a bond as a team.
type Conversion struct {
	From    string   `json:"from"`    // uplink
	To      string   `json:"to"`      // bond or team
	Config  string   `json:"config"`  // the entry for uplinks: in vmnetd.yaml
	Differs []string `json:"differs"` // what has no equivalent, a sentence each
	Anchor  string   `json:"anchor"`  // over it, "" for none: then --live is not possible
	Applied *Applied `json:"applied"` // with --live
}
