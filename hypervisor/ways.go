package hypervisor

import (
	"context"
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// Ways is every way to a VM.
type Ways struct {
	*QMP
}

// Names is the VMs that are there now, by name.
func (w Ways) Names() []string { return slices.Sorted(maps.Keys(w.Sockets())) }

func noDefinition(name string) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt keeps no definition of VM %s", vmnetd.Printable(name))
}

// Filter implements agent.Hypervisor.
func (w Ways) Filter(context.Context, VM, NIC) (RxFilter, error) {
	return RxFilter{}, vmnetd.Errorf(vmnetd.ErrUnsupported, "not yet")
}

// Definition implements agent.Hypervisor.
func (w Ways) Definition(_ context.Context, name string) (Definition, error) {
	return Definition{}, noDefinition(name)
}

// Define implements agent.Hypervisor.
func (w Ways) Define(_ context.Context, name string, _ domxml.Element) (bool, error) {
	return false, noDefinition(name)
}

// Undefine implements agent.Hypervisor.
func (w Ways) Undefine(_ context.Context, name string, _ NIC) (bool, error) {
	return false, noDefinition(name)
}

// Redefine implements agent.Hypervisor.
func (w Ways) Redefine(_ context.Context, was Definition, _ string) error {
	return noDefinition(was.Name)
}
