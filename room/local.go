package room

import (
	"context"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/nexthop"
	"github.com/vmnetd/vmnetd/tapdev"
)

// local is the namespace that this process works in. Devices may have any name in
// it: it goes by their mark.
type local struct {
	conn    *rtnl.Conn
	devices *tapdev.Host
	filters *filter.Host
}

// ID is Place's.
func (l *local) ID() string { return l.conn.NS().ID() }

// NS is Place's.
func (l *local) NS() *netns.NS { return l.conn.NS() }

// Close is Place's.
func (l *local) Close() error { return nil }

// FindNIC is Place's.
func (l *local) FindNIC(ctx context.Context, vm, id string) (tapdev.Device, error) {
	return l.devices.FindNIC(ctx, vm, id)
}

// Ours is Place's.
func (l *local) Ours(ctx context.Context) ([]tapdev.Device, error) { return l.devices.NICs(ctx) }

// Settle is Place's.
func (l *local) Settle(ctx context.Context, dev tapdev.Device, s tapdev.Settings) (tapdev.Device, error) {
	return l.devices.Settle(ctx, dev, s)
}

// SetUp is Place's.
func (l *local) SetUp(ctx context.Context, dev tapdev.Device, up bool) error {
	return l.devices.SetNICUp(ctx, dev, up)
}

// Remove is Place's.
func (l *local) Remove(ctx context.Context, devs ...tapdev.Device) error {
	return l.devices.RemoveNICs(ctx, devs...)
}

// Guard is Place's.
func (l *local) Guard(ctx context.Context, spec filter.Spec) error { return l.filters.Set(ctx, spec) }

// GuardAll is Place's.
func (l *local) GuardAll(ctx context.Context, specs []filter.Spec) error {
	return l.filters.SetAll(ctx, specs)
}

// Lost is Place's.
func (l *local) Lost(ctx context.Context, specs []filter.Spec) ([]filter.Spec, error) {
	return l.filters.Lost(ctx, specs)
}

// Holds is Place's.
func (l *local) Holds(ctx context.Context, spec filter.Spec) (bool, error) {
	return l.filters.Holds(ctx, spec)
}

// Unguard is Place's.
func (l *local) Unguard(ctx context.Context, ifnames ...string) error {
	return l.filters.Remove(ctx, ifnames...)
}

// Counters is Place's.
func (l *local) Counters(ctx context.Context, ifname string) ([]vmnetd.Counter, error) {
	return l.filters.Counters(ctx, ifname)
}

// Answer is Place's.
func (l *local) Answer(ctx context.Context, dev tapdev.Device) error {
	return nexthop.Answer(ctx, l.conn, dev.Ifindex)
}

// Packets is Place's.
func (l *local) Packets(ctx context.Context, dev tapdev.Device) (fd int, err error) {
	return learn.OpenSocket(ctx, l.conn, dev.Ifindex)
}

// here is the daemon's own namespace, where devices have the names that they were
// made with, and nodes in /dev that are ours to remove.
type here struct{ *local }

// Ours is Place's.
func (h here) Ours(ctx context.Context) ([]tapdev.Device, error) { return h.devices.Ours(ctx) }

// SetUp is Place's.
func (h here) SetUp(ctx context.Context, dev tapdev.Device, up bool) error {
	return h.devices.SetUp(ctx, dev, up)
}

// Remove is Place's.
func (h here) Remove(ctx context.Context, devs ...tapdev.Device) error {
	return h.devices.Remove(ctx, devs...)
}
