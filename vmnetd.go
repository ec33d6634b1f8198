package vmnetd

import (
	"strings"
	"time"
)

// Phase is where an attachment stands on its way from intent to traffic.
type Phase string

// Phases of an attachment.
const (
	Pending   Phase = "pending"   // wanted, not handed over yet
	Attached  Phase = "attached"  // the VM holds the queues and the device is up
	Broken    Phase = "broken"    // was attached; something it stands on has gone
	Detaching Phase = "detaching" // no longer wanted; the guest has not let go yet
)

// NextStart is the Problem of an attachment that is only written down for the
// VM's next start.
const NextStart = "pending: next start"

// PriceOfFD is what a NIC costs whose queues reach a QEMU of libvirt's by fd,
// behind libvirt's back.
const PriceOfFD = "libvirt does not know of the NIC: it calls the VM tainted (custom-monitor), dumpxml does not show the NIC, and a VM that is saved or migrated with it cannot be restored"

// PriceOfFilter is what following a guest's MAC costs where libvirt runs it:
// libvirt itself follows one on type='direct' alone (qemu_driver.c,
// processNicRxFilterChangedEvent), and has no call that tells.
const PriceOfFilter = "libvirt calls a VM tainted (custom-monitor) whose guest's MAC is followed; nothing else changes for it"

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
	Via     string `json:"via,omitempty"`      // "": libvirt where it knows the VM, else qmp; "libvirt"; "qmp": by the configured sockets; "qmp:SOCKET"; "netns:PATH": a network namespace instead of a VM
	Bus     string `json:"bus,omitempty"`      // QEMU bus to plug into, "" for the first free place
	Addr    string `json:"addr,omitempty"`     // slot on Bus, "" for the first free one
	NoVHost bool   `json:"no_vhost,omitempty"` // OpenTap: the owner has no use for vhost-net fds

	// IPs are the guest's addresses: ADDRESS, or ADDRESS/LENGTH where the device's
	// own stack uses them (netns:PATH). Name and Routes are for netns:PATH alone:
	// the device's name in there, and routes, each "PREFIX via ADDRESS", "PREFIX"
	// or "default via ADDRESS".
	IPs    []string `json:"ips,omitempty"`
	Name   string   `json:"name,omitempty"`
	Routes []string `json:"routes,omitempty"`

	// Live and Config are virsh's --live and --config: the running VM, what is
	// kept for its next start, or both. Neither: the running VM, or, where it is
	// shut off, what is kept.
	Live     bool   `json:"live,omitempty"`
	Config   bool   `json:"config,omitempty"`
	Handover string `json:"handover,omitempty"` // "" or "name": libvirt opens the device by its name; "fd": the queue fds travel through its monitor
	Incoming bool   `json:"incoming,omitempty"` // the VM waits for a migration: its link stays down until its CPUs run
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
	Via         string   `json:"via"`          // libvirt, qmp:SOCKET, netns:PATH, exec, fd
	Link        string   `json:"link"`         // up, no-carrier, down
	Phase       Phase    `json:"phase"`
	Problem     string   `json:"problem"` // one sentence, "" when all is well
	Rule        string   `json:"rule"`    // FILE:LINE
	Reasons     []string `json:"reasons"`
	Changed     bool     `json:"changed"`

	Name      string   `json:"name,omitempty"`       // of the device in the namespace of netns:PATH
	Routes    []string `json:"routes,omitempty"`     // in there
	Learned   []string `json:"learned,omitempty"`    // those of IPs that the guest was heard to use
	GuestSide []string `json:"guest_side,omitempty"` // l3: /32 and /128 routes that reach the guest, for the router's export
}

// Counter counts what one rule of an attachment's filter has matched.
type Counter struct {
	Rule    string `json:"rule"` // source MAC, ARP sender, IPv4 source, …
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Dropped bool   `json:"dropped"` // what it matches is dropped
}

// VLANRange is VLANs From to To, both included (1 to 4094).
type VLANRange struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// HostLinkRequest asks for a device of this host's own on a network's uplink, or
// for its end.
type HostLinkRequest struct {
	Network string   `json:"network"`
	Uplink  string   `json:"uplink,omitempty"` // one of the network's; "": as an attachment would choose
	IPs     []string `json:"ips,omitempty"`    // ADDRESS/LENGTH
	Remove  bool     `json:"remove,omitempty"`
}

// HostLink is a device by which this host and the guests of a network reach each
// other.
type HostLink struct {
	Network string   `json:"network"`
	Uplink  string   `json:"uplink"`
	Ifname  string   `json:"ifname"`
	Kind    Kind     `json:"kind"` // macvlan, ipvlan
	Mode    Mode     `json:"mode"`
	MAC     string   `json:"mac"`
	VLAN    int      `json:"vlan"`
	IPs     []string `json:"ips"`
	Guests  []string `json:"guests"`  // addresses of guests that this host reaches by it
	Problem string   `json:"problem"` // "" when all is well
	Changed bool     `json:"changed"`
}

// FullName is VM/NIC, the attachment's name everywhere.
func (a Attachment) FullName() string { return FullName(a.VM, a.ID) }

// Device names kind and mode of what the NIC stands on, as they are printed to
// people: "macvtap bridge", "veth switched".
func (a Attachment) Device() string {
	if a.Kind == "" {
		return a.Mode.WithKind()
	}
	return strings.TrimSpace(string(a.Kind) + " " + string(a.Mode))
}

// Import is what `vmnetd import` changes, or would change, in a VM's definition.
type Import struct {
	VM      string         `json:"vm"`
	Changes []ImportChange `json:"changes"`
	Applied bool           `json:"applied"`
}

// ImportChange is one interface of a definition.
type ImportChange struct {
	MAC     string `json:"mac"`
	Addr    string `json:"addr"` // the guest's PCI address, which stays: 0000:05:00.0
	ID      string `json:"id"`
	From    string `json:"from"` // direct bridge on eno1
	To      string `json:"to"`   // macvtap bridge on wan
	Network string `json:"network"`
	Problem string `json:"problem"` // why it stays as it is, "" when it does not
}

// ImportOptions says what Import does beyond showing.
type ImportOptions struct {
	Apply  bool `json:"apply,omitempty"`
	Revert bool `json:"revert,omitempty"` // back to what the interfaces were before
}

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
