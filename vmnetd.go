package vmnetd

import "time"

// Phase is where an attachment stands on its way from intent to traffic.
type Phase string

// Phases of an attachment.
const (
	Pending   Phase = "pending"   // wanted, not handed over yet
	Attached  Phase = "attached"  // the VM holds the queues and the device is up
	Broken    Phase = "broken"    // was attached; something it stands on has gone
	Detaching Phase = "detaching" // no longer wanted; the guest has not let go yet
)

// VM is a virtual machine as an operator names it.
type VM struct {
	Name   string            `json:"name"`
	UUID   string            `json:"uuid,omitempty"` // "" where the VM has none (query-uuid all zero)
	Labels map[string]string `json:"labels,omitempty"`
}

// Request asks for one NIC of one VM. The zero value of a field means "not
// asked for": the policy chooses.
type Request struct {
	VM      string `json:"vm"`
	ID      string `json:"id,omitempty"`
	Network string `json:"network,omitempty"`
	Uplink  string `json:"uplink,omitempty"`
	Mode    Mode   `json:"mode,omitempty"`
	MAC     string `json:"mac,omitempty"`      // aa:bb:cc:dd:ee:ff
	Queues  int    `json:"queues,omitempty"`   // queue pairs; 0: as the policy says
	Via     string `json:"via,omitempty"`      // "" or "qmp": by the configured sockets; "qmp:SOCKET"
	Bus     string `json:"bus,omitempty"`      // QEMU bus to plug into, "" for the first free place
	Addr    string `json:"addr,omitempty"`     // slot on Bus, "" for the first free one
	NoVHost bool   `json:"no_vhost,omitempty"` // OpenTap: the owner has no use for vhost-net fds
}

// Attachment is one NIC of one VM as it is shown everywhere: the field names
// are the same in JSON, D-Bus properties and log keys.
type Attachment struct {
	ID          string   `json:"id"`
	VM          string   `json:"vm"`
	Network     string   `json:"network"`
	Uplink      string   `json:"uplink"`
	Kind        Kind     `json:"kind"`
	Mode        Mode     `json:"mode"`
	Ifname      string   `json:"ifname"`
	Ifindex     int      `json:"ifindex"` // 0 while there is no device
	MAC         string   `json:"mac"`
	IPs         []string `json:"ips"`
	MTU         int      `json:"mtu"`  // bytes
	VLAN        int      `json:"vlan"` // 0: none
	Queues      int      `json:"queues"`
	VHost       bool     `json:"vhost"`
	VHostReason string   `json:"vhost_reason"` // why not, when VHost is false
	Via         string   `json:"via"`          // qmp:SOCKET, exec, fd
	Link        string   `json:"link"`         // up, no-carrier, down
	Phase       Phase    `json:"phase"`
	Problem     string   `json:"problem"` // one sentence, "" when all is well
	Rule        string   `json:"rule"`    // FILE:LINE
	Reasons     []string `json:"reasons"`
	Changed     bool     `json:"changed"`
}

// FullName is VM/NIC, the attachment's name everywhere.
func (a Attachment) FullName() string { return FullName(a.VM, a.ID) }

// Check is one line of `doctor` or `status --check`.
type Check struct {
	Level string `json:"level"` // ok, warn, fail
	Name  string `json:"name"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to type or install
}

// Levels of a Check.
const (
	LevelOK   = "ok"
	LevelWarn = "warn"
	LevelFail = "fail"
)

// Status is what `vmnetd status` shows.
type Status struct {
	Host        string        `json:"host"`
	Version     string        `json:"version"`
	Since       time.Time     `json:"since"` // when the daemon started
	Config      string        `json:"config"`
	Accepted    time.Time     `json:"accepted"` // when the running configuration was accepted
	Applied     time.Time     `json:"applied"`  // when the uplinks were last applied and confirmed; zero: never
	Never       bool          `json:"never"`    // uplinks are declared that need an apply, and nothing was ever applied
	Pending     *Applied      `json:"pending"`  // an apply that waits to be confirmed
	Problems    []Check       `json:"problems"` // worst first; empty when all is well
	Uplinks     []UplinkState `json:"uplinks"`
	Attachments []Attachment  `json:"attachments"`
}

// Event is one line of `watch`.
type Event struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"` // attached, detached, broken, denied, uplink-lost, …
	VM     string    `json:"vm"`
	ID     string    `json:"id"`
	Uplink string    `json:"uplink"`
	Text   string    `json:"text"`
}
