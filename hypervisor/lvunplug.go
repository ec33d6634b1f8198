package hypervisor

import (
	"context"
	"errors"
	"strings"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// Unplug asks the guest to let go of a NIC and waits for that at most
// Limits.Eject. ErrEjecting: it has not yet; call again. A NIC that is not there
// is fine, and so is a VM that has gone.
func (l *Libvirt) Unplug(ctx context.Context, vm VM, nic NIC) error {
	if nic.ByFD {
		return l.fd.unplug(ctx, vm, nic)
	}
	d, err := l.enter(ctx, vm)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	i, ok := d.byTarget(nic.Ifname)
	if !ok {
		l.forget(ctx, d, nic)
		return nil
	}
	key := lvDevice{d.uuid, i.Alias}
	removed := l.await(key)
	defer l.awaitNot(key)
	if err := l.detach(ctx, d, i.Alias); err != nil {
		return err
	}
	if err := l.hit(failpoint.DetachUnplug); err != nil {
		return err
	}
	return l.ejected(ctx, d, nic, removed)
}

// detach asks by the alias, which is one device's alone: a MAC may be two's. That
// way libvirtd does not wait for the guest either, as it does for 5 s, with the
// domain's turn taken, when it is given an element (qemu_hotplug.c, async).
func (l *Libvirt) detach(ctx context.Context, d lvDomain, alias string) error {
	err := l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) error {
		return lv.DomainDetachDeviceAlias(d.ref(), alias, uint32(libvirt.DomainDeviceModifyLive))
	})
	var refused libvirt.Error
	switch {
	case err == nil, isLv(err, libvirt.ErrNoDomain), isLv(err, libvirt.ErrDeviceMissing):
		return nil
	case errors.As(err, &refused) && (strings.Contains(refused.Message, "in the process of unplug") || strings.Contains(refused.Message, "domain is not running")):
		return nil
	}
	return lvRefused(d.name, "detach the NIC from VM "+vmnetd.Printable(d.name), err)
}

// ejected waits for the guest. Whatever the event says, the XML has the last
// word: the VM may have ended.
func (l *Libvirt) ejected(ctx context.Context, d lvDomain, nic NIC, removed <-chan bool) error {
	limit := time.NewTimer(l.limits.Eject)
	defer limit.Stop()
	refusedByGuest := false
	select {
	case gone := <-removed:
		refusedByGuest = !gone
	case <-limit.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := l.refresh(ctx, d.uuid)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, still := after.byTarget(nic.Ifname)
	switch {
	case after.id != d.id || after.xml == nil:
		return nil
	case !still:
		l.forget(ctx, after, nic)
		return nil
	case refusedByGuest:
		return vmnetd.Errorf(vmnetd.ErrBusy, "the guest of VM %s refused to let go of NIC %s: %w", vmnetd.Printable(d.name), nic.ID, ErrEjecting)
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s, NIC %s: %w", vmnetd.Printable(d.name), nic.ID, ErrEjecting).
		WithNext("it goes when the guest runs and its OS handles PCI hotplug, or when the VM stops")
}

// await has the next removal of a device told, or its guest's refusal.
func (l *Libvirt) await(key lvDevice) <-chan bool {
	c := make(chan bool, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[key] = c
	return c
}

func (l *Libvirt) awaitNot(key lvDevice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, key)
}
