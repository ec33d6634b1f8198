package agent

import (
	"context"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/policy"
)

// Caller is who asks, as the bus (or the kernel) vouches for it.
type Caller struct {
	UID uint32
	PID int
}

// Selector names the NIC or NICs of a VM to detach: one of its fields.
type Selector struct {
	ID     string
	MAC    string
	All    bool
	Live   bool // as in vmnetd.Request
	Config bool
}

// Owner is the process that an attachment by fd lives as long as.
type Owner struct {
	PID   int
	Start uint64 // field 22 of /proc/PID/stat, clock ticks since boot
	Boot  string // /proc/sys/kernel/random/boot_id
}

// Change says that an attachment (Gone: is no more) or an uplink changed.
type Change struct {
	Attachment *vmnetd.Attachment
	Uplink     *vmnetd.UplinkState
	Event      *vmnetd.Event
	Gone       bool
}

// API is what the agent does for its front ends (dbusapi serves it).
type API interface {
	// Attach gives a VM a NIC. When it takes longer than ctx allows, the
	// attachment is returned in the phase it is in and the work goes on.
	Attach(ctx context.Context, who Caller, req vmnetd.Request) (vmnetd.Attachment, error)
	Detach(ctx context.Context, who Caller, vm string, sel Selector) ([]vmnetd.Attachment, error)
	// Explain is policy's answer as JSON-ready data and touches nothing.
	Explain(ctx context.Context, who Caller, req vmnetd.Request, all bool) ([]policy.Explanation, error)
	// OpenTap makes the device and a token with which its queues can be
	// claimed once.
	OpenTap(ctx context.Context, who Caller, req vmnetd.Request) (vmnetd.Attachment, []byte, error)
	// Claim gives the queues to the owner, who has the token; the caller of
	// Claim closes them. done tells whether they reached the owner: only then
	// is the device set up.
	Claim(ctx context.Context, token []byte, owner Owner) (set *queuefd.Set, done func(error) (vmnetd.Attachment, error), err error)
	List(vm string) []vmnetd.Attachment
	// Counters is what the rules of an attachment's filter have matched, in their
	// order; empty where nothing is filtered.
	Counters(ctx context.Context, vm, id string) ([]vmnetd.Counter, error)
	// HostLink makes or changes this host's own link to a network, or removes it;
	// it is kept over restarts and reboots. HostLinks are those that are kept.
	HostLink(ctx context.Context, who Caller, req vmnetd.HostLinkRequest) (vmnetd.HostLink, error)
	HostLinks() []vmnetd.HostLink
	// DomainHook is libvirt's qemu hook: operation, sub-operation and the domain's
	// XML. Only an error at prepare/begin stops the VM; it never asks libvirt.
	DomainHook(ctx context.Context, who Caller, vm, op, sub, xml string) error
	// DomainXML is the <interface> element that has libvirt give a VM the NIC that
	// policy grants, for whoever writes domains (virt-install, Terraform).
	DomainXML(ctx context.Context, who Caller, req vmnetd.Request) (string, error)
	// Import shows, and with o.Apply makes, NICs of ours of the interfaces in a
	// VM's definition that stand on devices of this host. vmnetd.ErrBusy: the VM
	// runs, or it changed meanwhile.
	Import(ctx context.Context, who Caller, vm string, o vmnetd.ImportOptions) (vmnetd.Import, error)
	// Uplinks is the uplinks as they were last looked at; Refresh looks at one of
	// them, "" for all, again where kernel and teamd do not tell everything by
	// themselves (link watches, LACP).
	Uplinks() []vmnetd.UplinkState
	Refresh(ctx context.Context, name string)
	// VMs names the VMs whose socket is there, and those that have or want a
	// NIC, by name.
	VMs() []string
	Status() vmnetd.Status
	Doctor(ctx context.Context) []vmnetd.Check
	Events(since time.Time) []vmnetd.Event
	// Subscribe calls on for every change, in order, until stop is called; on
	// must not block.
	Subscribe(on func(Change)) (stop func())
	Reload(ctx context.Context) error

	UplinkAPI
}

// UplinkAPI is what the agent does about the uplinks that are ours.
type UplinkAPI interface {
	// Plan compares what is with what the operator's files declare; names
	// restricts it to these uplinks and what they stand on.
	Plan(ctx context.Context, names []string) (vmnetd.Plan, error)
	// Apply carries the plan out. Unless o.NoConfirm it is undone at
	// Applied.Until when nobody has confirmed it by then, also when this
	// process is dead. vmnetd.ErrBusy: the plan has problems, nothing was touched.
	Apply(ctx context.Context, who Caller, o vmnetd.ApplyOptions) (vmnetd.Applied, error)
	// Confirm keeps an apply; id "" is the one that waits.
	Confirm(ctx context.Context, who Caller, id string) error
	// Rollback undoes the apply that waits for its confirmation.
	Rollback(ctx context.Context, who Caller, id string) error
	// Move puts an anchor on one of its members until it is moved again; to ""
	// lets it choose by itself again.
	Move(ctx context.Context, who Caller, anchor, to string) error
	// SetDrain moves the active path off a port and keeps it off, or ends that.
	SetDrain(ctx context.Context, who Caller, uplink, port string, on bool) error
	// SetHold stops converging an uplink until a moment; the zero time ends it.
	SetHold(ctx context.Context, who Caller, uplink string, until time.Time) error
	// Team reads or changes a team; the answer is JSON, or the value asked for.
	Team(ctx context.Context, who Caller, team string, req vmnetd.TeamRequest) (string, error)
	// Convert shows an uplink as the other kind ("bond" or "team"); live does
	// it, under the guests of an anchor over it.
	Convert(ctx context.Context, who Caller, uplink, to string, live bool) (vmnetd.Conversion, error)
}
