package room

import (
	"context"
	"log/slog"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/tapdev"
)

// Place is a network namespace in which devices of ours live.
type Place interface {
	// ID tells namespaces apart: device and inode of their file in nsfs.
	ID() string
	// NS is the namespace itself, for moving devices into it; valid until Close.
	NS() *netns.NS
	// FindNIC is the device of an attachment in here: by its mark, or where it was
	// not marked yet by the name it came with. vmnetd.ErrNotFound.
	FindNIC(ctx context.Context, vm, id string) (tapdev.Device, error)
	// Ours is every device of ours in here.
	Ours(ctx context.Context) ([]tapdev.Device, error)
	// Settle gives a device what it is to have in here.
	Settle(ctx context.Context, dev tapdev.Device, s tapdev.Settings) (tapdev.Device, error)
	SetUp(ctx context.Context, dev tapdev.Device, up bool) error
	Remove(ctx context.Context, devs ...tapdev.Device) error
	// Guard, Holds, Unguard and Counters are filter.Host's Set, Holds, Remove and
	// Counters.
	Guard(ctx context.Context, spec filter.Spec) error
	Holds(ctx context.Context, spec filter.Spec) (bool, error)
	Unguard(ctx context.Context, ifnames ...string) error
	Counters(ctx context.Context, ifname string) ([]vmnetd.Counter, error)
	// Answer is nexthop.Answer.
	Answer(ctx context.Context, dev tapdev.Device) error
	// Packets is learn.OpenSocket on a device; the caller closes the descriptor.
	Packets(ctx context.Context, dev tapdev.Device) (fd int, err error)
	// Close lets go of the namespace; vmnetd's own stays, held by its process.
	Close() error
}

// Starter starts processes of ours in other namespaces.
type Starter interface {
	// Start runs `vmnetd room --socket PATH` in a new namespace (netns "") or in
	// that of a path, so that it outlives its caller.
	Start(ctx context.Context, netns, socket string) error
}

// Options is what Rooms work with.
type Options struct {
	RunDir  string       // where sockets of rooms are: /run/vmnetd
	Conn    *rtnl.Conn   // of the daemon's own namespace
	Devices *tapdev.Host // there
	Filters *filter.Host // there
	Starter Starter
	Log     *slog.Logger
}

// Rooms finds and makes places.
type Rooms struct{ o Options }

// New makes Rooms; nothing is started.
func New(o Options) *Rooms { return &Rooms{o: o} }

// Here is the daemon's own namespace as a Place: no process is needed for it. The
// Place stays the Rooms', and FindNIC looks at every link.
func (r *Rooms) Here() Place { return nil }

// Own is vmnetd's own namespace: the one that is there, or, with make, a new one;
// vmnetd.ErrNotFound when there is none. The Place stays the Rooms'.
func (r *Rooms) Own(ctx context.Context, make bool) (Place, error) { return nil, errNotBuilt }

// At is the namespace of a path: /run/netns/NAME, /proc/PID/ns/net. The caller
// closes the Place, and with it ends the process in there: nothing of ours keeps
// the namespace. vmnetd.ErrNotFound: there is no such path; vmnetd.ErrInvalid: it
// is no network namespace, or the daemon's own.
func (r *Rooms) At(ctx context.Context, path string) (Place, error) { return nil, errNotBuilt }

// Run tells of devices in vmnetd's own namespace that come, go or change, and of
// filters of ours there that others removed, until ctx ends; changed must not
// block. It makes no namespace.
func (r *Rooms) Run(ctx context.Context, changed func(ifindex int)) error { <-ctx.Done(); return nil }

// Doctor checks what rooms need of the host.
func (r *Rooms) Doctor(ctx context.Context) []vmnetd.Check { return nil }

var errNotBuilt = vmnetd.Errorf(vmnetd.ErrUnsupported, "room: not built yet")
