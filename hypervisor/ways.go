package hypervisor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// Ways is every way to a VM: through libvirtd, or through its own QMP socket. A VM
// that runs under libvirt is reached that way, unless another one is named. A
// network namespace in the place of a VM is found only where it is named.
type Ways struct {
	QMP     *QMP
	Libvirt *Libvirt
	Netns   *Netns
}

// way is what all have.
type way interface {
	Find(ctx context.Context, name, via string) (VM, error)
	Ask(ctx context.Context, name, via string) (VM, error)
	Plug(ctx context.Context, vm VM, nic NIC) (Place, error)
	Plugged(ctx context.Context, vm VM, nic NIC) (Place, bool, error)
	Unplug(ctx context.Context, vm VM, nic NIC) error
	CutOff(ctx context.Context, vm VM, nic NIC) error
	SetLink(ctx context.Context, vm VM, nic NIC, up bool) error
	Filter(ctx context.Context, vm VM, nic NIC) (RxFilter, error)
	Run(ctx context.Context, saw func(Sighting)) error
	Doctor(ctx context.Context) []vmnetd.Check
}

func (w Ways) to(vm VM) way {
	switch {
	case vm.Netns != "":
		return w.Netns
	case vm.Via == viaLibvirt:
		return w.Libvirt
	}
	return w.QMP
}

// Configure puts a configuration in force; with a bad one (vmnetd.ErrInvalid)
// the old one stays as a whole.
func (w Ways) Configure(c Config) error {
	if _, err := libvirtSockets(c.Libvirt); err != nil {
		return err
	}
	if err := checkNetns(c); err != nil {
		return err
	}
	if err := w.QMP.Configure(c); err != nil {
		return err
	}
	return errors.Join(w.Netns.Configure(c), w.Libvirt.Configure(c.Libvirt))
}

// Allowed implements agent.Hypervisor: libvirt chooses no socket, and is
// everybody's.
func (w Ways) Allowed(uid uint32, via string) error {
	switch {
	case via == viaLibvirt:
		return nil
	case strings.HasPrefix(via, viaNetns):
		return w.Netns.Allowed(uid, via)
	}
	return w.QMP.Allowed(uid, via)
}

// Find looks a running VM up, by "libvirt", "qmp", "qmp:SOCKET", "netns:PATH", or by
// whichever way it is found.
func (w Ways) Find(ctx context.Context, name, via string) (VM, error) {
	return w.find(name, via, func(way way) (VM, error) { return way.Find(ctx, name, via) })
}

// Ask is Find that asks the VM or libvirtd.
func (w Ways) Ask(ctx context.Context, name, via string) (VM, error) {
	return w.find(name, via, func(way way) (VM, error) { return way.Ask(ctx, name, via) })
}

func (w Ways) find(name, via string, in func(way) (VM, error)) (VM, error) {
	switch {
	case strings.HasPrefix(via, viaNetns):
		return in(w.Netns)
	case via == viaLibvirt, via == "" && w.Libvirt.runs(name):
		vm, err := in(w.Libvirt)
		if via == "" && errors.Is(err, vmnetd.ErrNotFound) { // it ended just now
			break
		}
		return vm, err
	case via != "":
		return in(w.QMP)
	}
	vm, err := in(w.QMP)
	if !errors.Is(err, vmnetd.ErrNotFound) {
		return vm, err
	}
	return VM{}, w.notFound(name, err)
}

// notFound says where a VM was looked for.
func (w Ways) notFound(name string, byQMP error) error {
	sockets, _ := w.Libvirt.where()
	if len(sockets) == 0 {
		return byQMP
	}
	if d, ok := w.Libvirt.byName(name); ok && !d.active() {
		return shutOff(name)
	}
	by := "libvirt does not know it"
	if err := w.Libvirt.untold(); err != nil && !absent(err) {
		return err // it may well be there
	}
	if _, err := w.Libvirt.session(); err != nil {
		by = err.Error()
	}
	why := strings.TrimPrefix(byQMP.Error(), "there is no VM "+vmnetd.Printable(name)+": ")
	return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no VM %s: %s; %s", vmnetd.Printable(name), by, why).WithNext(vmnetd.NextOf(byQMP))
}

// Plug implements agent.Hypervisor.
func (w Ways) Plug(ctx context.Context, vm VM, nic NIC) (Place, error) {
	return w.to(vm).Plug(ctx, vm, nic)
}

// Plugged implements agent.Hypervisor.
func (w Ways) Plugged(ctx context.Context, vm VM, nic NIC) (Place, bool, error) {
	return w.to(vm).Plugged(ctx, vm, nic)
}

// Unplug implements agent.Hypervisor.
func (w Ways) Unplug(ctx context.Context, vm VM, nic NIC) error {
	return w.to(vm).Unplug(ctx, vm, nic)
}

// CutOff implements agent.Hypervisor.
func (w Ways) CutOff(ctx context.Context, vm VM, nic NIC) error {
	return w.to(vm).CutOff(ctx, vm, nic)
}

// SetLink implements agent.Hypervisor.
func (w Ways) SetLink(ctx context.Context, vm VM, nic NIC, up bool) error {
	return w.to(vm).SetLink(ctx, vm, nic, up)
}

// Filter implements agent.Hypervisor.
func (w Ways) Filter(ctx context.Context, vm VM, nic NIC) (RxFilter, error) {
	return w.to(vm).Filter(ctx, vm, nic)
}

// Definition implements agent.Hypervisor.
func (w Ways) Definition(ctx context.Context, name string) (Definition, error) {
	if err := w.keeps(name); err != nil {
		return Definition{}, err
	}
	return w.Libvirt.Definition(ctx, name)
}

// Define implements agent.Hypervisor.
func (w Ways) Define(ctx context.Context, name string, nic domxml.Element) (bool, error) {
	if err := w.keeps(name); err != nil {
		return false, err
	}
	return w.Libvirt.Define(ctx, name, nic)
}

// Undefine implements agent.Hypervisor.
func (w Ways) Undefine(ctx context.Context, name string, nic NIC) (bool, error) {
	if err := w.keeps(name); err != nil {
		return false, err
	}
	return w.Libvirt.Undefine(ctx, name, nic)
}

// Redefine implements agent.Hypervisor.
func (w Ways) Redefine(ctx context.Context, was Definition, xml string) error {
	if err := w.keeps(was.Name); err != nil {
		return err
	}
	return w.Libvirt.Redefine(ctx, was, xml)
}

// keeps: where there is no libvirt, nobody keeps a definition. vmnetd.ErrNotFound
// is the answer that a caller counts on then.
func (w Ways) keeps(name string) error {
	_, err := w.Libvirt.session()
	if err == nil || !errors.Is(err, vmnetd.ErrUnsupported) && (!absent(err) || w.Libvirt.everListed()) {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt keeps no definition of VM %s: %w", vmnetd.Printable(name), err).WithNext(vmnetd.NextOf(err))
}

// Run implements agent.Hypervisor. saw is called once at a time, and told that
// the watch has begun when all have.
func (w Ways) Run(ctx context.Context, saw func(Sighting)) error {
	var mu sync.Mutex
	ways := []way{w.QMP, w.Libvirt, w.Netns}
	waiting := len(ways)
	one := func(s Sighting) {
		mu.Lock()
		defer mu.Unlock()
		if s == (Sighting{}) {
			if waiting--; waiting != 0 {
				return
			}
		}
		saw(s)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, way := range ways {
		g.Go(func() error { return way.Run(ctx, one) })
	}
	return g.Wait()
}

// Names is the VMs that are there now, those that libvirt knows, and those that
// are namespaces, by name.
func (w Ways) Names() []string {
	names := slices.Collect(maps.Keys(w.QMP.Sockets()))
	names = slices.Concat(names, w.Libvirt.Names(), w.Netns.Names())
	slices.Sort(names)
	return slices.Compact(names)
}

// Doctor implements agent.Hypervisor.
func (w Ways) Doctor(ctx context.Context) []vmnetd.Check {
	return slices.Concat(w.Libvirt.Doctor(ctx), w.QMP.Doctor(ctx), w.Netns.Doctor(ctx))
}
