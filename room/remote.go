package room

import (
	"context"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/tapdev"
)

// remote is a namespace that a process of ours works in.
type remote struct {
	link  *link
	id    string
	stays bool // vmnetd's own
}

func newRemote(l *link, stays bool) *remote { return &remote{link: l, id: l.ns.ID(), stays: stays} }

// ID is Place's.
func (r *remote) ID() string { return r.id }

// NS is Place's.
func (r *remote) NS() *netns.NS { return r.link.ns }

// Close is Place's.
func (r *remote) Close() error {
	if r.stays {
		return nil
	}
	return r.link.close()
}

// ask is a request whose reply has no descriptor.
func (r *remote) ask(ctx context.Context, verb string, args, result any) error {
	fd, err := r.link.call(ctx, verb, args, result)
	closeFD(fd)
	return err
}

// FindNIC is Place's.
func (r *remote) FindNIC(ctx context.Context, vm, id string) (dev tapdev.Device, err error) {
	err = r.ask(ctx, "findnic", nicArgs{VM: vm, ID: id}, &dev)
	return dev, err
}

// Ours is Place's.
func (r *remote) Ours(ctx context.Context) (devs []tapdev.Device, err error) {
	err = r.ask(ctx, "ours", nil, &devs)
	return devs, err
}

// Settle is Place's.
func (r *remote) Settle(ctx context.Context, dev tapdev.Device, s tapdev.Settings) (settled tapdev.Device, err error) {
	err = r.ask(ctx, "settle", settleArgs{Device: dev, Settings: s}, &settled)
	return settled, err
}

// SetUp is Place's.
func (r *remote) SetUp(ctx context.Context, dev tapdev.Device, up bool) error {
	return r.ask(ctx, "setup", upArgs{Device: dev, Up: up}, nil)
}

// Remove is Place's.
func (r *remote) Remove(ctx context.Context, devs ...tapdev.Device) error {
	return r.ask(ctx, "remove", devs, nil)
}

// Guard is Place's.
func (r *remote) Guard(ctx context.Context, spec filter.Spec) error {
	return r.ask(ctx, "guard", spec, nil)
}

// GuardAll is Place's.
func (r *remote) GuardAll(ctx context.Context, specs []filter.Spec) error {
	return r.ask(ctx, "guardall", specs, nil)
}

// Lost is Place's.
func (r *remote) Lost(ctx context.Context, specs []filter.Spec) (lost []filter.Spec, err error) {
	err = r.ask(ctx, "lost", specs, &lost)
	return lost, err
}

// Holds is Place's.
func (r *remote) Holds(ctx context.Context, spec filter.Spec) (holds bool, err error) {
	err = r.ask(ctx, "holds", spec, &holds)
	return holds, err
}

// Unguard is Place's.
func (r *remote) Unguard(ctx context.Context, ifnames ...string) error {
	return r.ask(ctx, "unguard", ifnames, nil)
}

// Counters is Place's.
func (r *remote) Counters(ctx context.Context, ifname string) (counters []vmnetd.Counter, err error) {
	err = r.ask(ctx, "counters", ifname, &counters)
	return counters, err
}

// Answer is Place's.
func (r *remote) Answer(ctx context.Context, dev tapdev.Device) error {
	return r.ask(ctx, "answer", dev, nil)
}

// Packets is Place's.
func (r *remote) Packets(ctx context.Context, dev tapdev.Device) (fd int, err error) {
	fd, err = r.link.call(ctx, "packets", dev, nil)
	if err == nil && fd < 0 {
		err = vmnetd.Errorf(vmnetd.ErrFailed, "the process in the namespace sent no packet socket")
	}
	return fd, err
}
