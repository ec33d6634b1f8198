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
	ID  string
	MAC string
	All bool
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
	Uplinks() []vmnetd.UplinkState
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
}
