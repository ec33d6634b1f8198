package room

import (
	"context"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/tapdev"
)

// Place is a network namespace in which devices of ours live.
type Place interface {
	// ID tells namespaces apart that are there at the same time: device and inode of
	// their file in nsfs. The kernel gives the number of one that has gone to the next.
	ID() string
	// NS is the namespace itself, for moving devices into it; valid until Close, or
	// until the process in there has ended.
	NS() *netns.NS
	// FindNIC is the device of an attachment in here: by its mark, or where it was
	// not marked yet by the name it came with. vmnetd.ErrNotFound.
	FindNIC(ctx context.Context, vm, id string) (tapdev.Device, error)
	// Ours is every device of ours in here.
	Ours(ctx context.Context) ([]tapdev.Device, error)
	// Settle gives a device what it is to have in here.
	Settle(ctx context.Context, dev tapdev.Device, s tapdev.Settings) (tapdev.Device, error)
	// SetUp sets a device up or down. One that is set down loses its routes and some
	// of its IPv6 addresses (tapdev.Host.SetNICUp): Settle it before it is up again.
	SetUp(ctx context.Context, dev tapdev.Device, up bool) error
	Remove(ctx context.Context, devs ...tapdev.Device) error
	// Guard, GuardAll, Holds, Lost, Unguard and Counters are filter.Host's Set, SetAll,
	// Holds, Lost, Remove and Counters.
	Guard(ctx context.Context, spec filter.Spec) error
	GuardAll(ctx context.Context, specs []filter.Spec) error
	Holds(ctx context.Context, spec filter.Spec) (bool, error)
	Lost(ctx context.Context, specs []filter.Spec) ([]filter.Spec, error)
	Unguard(ctx context.Context, ifnames ...string) error
	Counters(ctx context.Context, ifname string) ([]vmnetd.Counter, error)
	// Answer is nexthop.Answer.
	Answer(ctx context.Context, dev tapdev.Device) error
	// Packets is learn.OpenSocket on a device; the caller closes the descriptor.
	Packets(ctx context.Context, dev tapdev.Device) (fd int, err error)
	// Close lets go of the namespace; vmnetd's own stays, held by its process.
	Close() error
}
