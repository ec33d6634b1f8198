package agent

import (
	"context"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// away is the hypervisor as a job calls it: without the VM's records in hand.
type away struct{ Hypervisor }

type turnKey struct{}

// errOvertaken tells a job that a hook changed its VM's records while it called
// the hypervisor: what it knows of them is not true any more.
var errOvertaken = vmnetd.Errorf(vmnetd.ErrBusy, "the VM was started or stopped meanwhile").WithNext("look how it is now (vmnetd list), and try again")

// without lets the records of the job's VM go for the time of a call.
func without[T any](ctx context.Context, call func() (T, error)) (T, error) {
	own, ok := ctx.Value(turnKey{}).(*turn)
	if !ok {
		return call()
	}
	before := own.hooks
	own.records.Unlock()
	v, err := call()
	own.records.Lock()
	if own.hooks != before {
		return v, errOvertaken
	}
	return v, err
}

func withoutValue(ctx context.Context, call func() error) error {
	_, err := without(ctx, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// Find implements Hypervisor.
func (a away) Find(ctx context.Context, name, via string) (hypervisor.VM, error) {
	return without(ctx, func() (hypervisor.VM, error) { return a.Hypervisor.Find(ctx, name, via) })
}

// Ask implements Hypervisor.
func (a away) Ask(ctx context.Context, name, via string) (hypervisor.VM, error) {
	return without(ctx, func() (hypervisor.VM, error) { return a.Hypervisor.Ask(ctx, name, via) })
}

// Plug implements Hypervisor.
func (a away) Plug(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) (hypervisor.Place, error) {
	return without(ctx, func() (hypervisor.Place, error) { return a.Hypervisor.Plug(ctx, vm, nic) })
}

// Plugged implements Hypervisor.
func (a away) Plugged(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) (place hypervisor.Place, ok bool, err error) {
	err = withoutValue(ctx, func() error {
		place, ok, err = a.Hypervisor.Plugged(ctx, vm, nic)
		return err
	})
	return place, ok, err
}

// Unplug implements Hypervisor.
func (a away) Unplug(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) error {
	return withoutValue(ctx, func() error { return a.Hypervisor.Unplug(ctx, vm, nic) })
}

// CutOff implements Hypervisor.
func (a away) CutOff(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) error {
	return withoutValue(ctx, func() error { return a.Hypervisor.CutOff(ctx, vm, nic) })
}

// SetLink implements Hypervisor.
func (a away) SetLink(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC, up bool) error {
	return withoutValue(ctx, func() error { return a.Hypervisor.SetLink(ctx, vm, nic, up) })
}

// Filter implements Hypervisor.
func (a away) Filter(ctx context.Context, vm hypervisor.VM, nic hypervisor.NIC) (hypervisor.RxFilter, error) {
	return without(ctx, func() (hypervisor.RxFilter, error) { return a.Hypervisor.Filter(ctx, vm, nic) })
}

// Definition implements Hypervisor.
func (a away) Definition(ctx context.Context, name string) (hypervisor.Definition, error) {
	return without(ctx, func() (hypervisor.Definition, error) { return a.Hypervisor.Definition(ctx, name) })
}

// Define implements Hypervisor.
func (a away) Define(ctx context.Context, name string, nic domxml.Element) (bool, error) {
	return without(ctx, func() (bool, error) { return a.Hypervisor.Define(ctx, name, nic) })
}

// Undefine implements Hypervisor.
func (a away) Undefine(ctx context.Context, name string, nic hypervisor.NIC) (bool, error) {
	return without(ctx, func() (bool, error) { return a.Hypervisor.Undefine(ctx, name, nic) })
}

// Redefine implements Hypervisor.
func (a away) Redefine(ctx context.Context, was hypervisor.Definition, xml string) error {
	return withoutValue(ctx, func() error { return a.Hypervisor.Redefine(ctx, was, xml) })
}
