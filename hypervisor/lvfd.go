package hypervisor

import (
	"context"

	"github.com/vmnetd/vmnetd"
)

// A NIC that was handed over by fd is not in the domain's XML: it is plugged and
// unplugged through QEMU's monitor by the id of its device.

func lvByFD() error { return vmnetd.Errorf(vmnetd.ErrUnsupported, "not yet") }

// plugByFD hands the queue fds of a NIC to QEMU through libvirt's monitor.
func (l *Libvirt) plugByFD(context.Context, VM, NIC) (Place, error) { return Place{}, lvByFD() }

func (l *Libvirt) pluggedByFD(context.Context, VM, NIC) (Place, bool, error) {
	return Place{}, false, lvByFD()
}

func (l *Libvirt) unplugByFD(context.Context, VM, NIC) error { return lvByFD() }

func (l *Libvirt) cutOffByFD(context.Context, VM, NIC) error { return lvByFD() }

func (l *Libvirt) setLinkByFD(context.Context, VM, NIC, bool) error { return lvByFD() }

// Filter asks what the guest wants a NIC to receive.
func (l *Libvirt) Filter(context.Context, VM, NIC) (RxFilter, error) { return RxFilter{}, lvByFD() }
