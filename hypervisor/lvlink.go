package hypervisor

import (
	"context"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// SetLink has the guest see the link of a NIC up or down. vmnetd.ErrNotFound:
// there is no such NIC.
func (l *Libvirt) SetLink(ctx context.Context, vm VM, nic NIC, up bool) error {
	if nic.ByFD {
		return l.fd.setLink(ctx, vm, nic, up)
	}
	d, err := l.enter(ctx, vm)
	if err != nil {
		return err
	}
	return l.setLink(ctx, d, nic, up)
}

func (l *Libvirt) setLink(ctx context.Context, d lvDomain, nic NIC, up bool) error {
	i, ok := d.byTarget(nic.Ifname)
	if !ok {
		return noSuchNIC(d, nic)
	}
	if i.LinkDown != up {
		return nil
	}
	var text string
	err := l.query(ctx, func(lv *libvirt.Libvirt) (err error) { text, err = lv.DomainGetXMLDesc(d.ref(), 0); return err })
	if err == nil {
		text, err = domxml.InterfaceWithLink(text, nic.Ifname, up)
	}
	if err != nil {
		return lvRefused(d.name, "tell about VM "+vmnetd.Printable(d.name), err)
	}
	err = l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) error {
		return lv.DomainUpdateDeviceFlags(d.ref(), text, libvirt.DomainDeviceModifyLive)
	})
	if err != nil {
		return lvRefused(d.name, "set the link of the NIC in VM "+vmnetd.Printable(d.name), err)
	}
	_, err = l.refresh(ctx, d.uuid)
	return err
}

func noSuchNIC(d lvDomain, nic NIC) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has no NIC %s", vmnetd.Printable(d.name), nic.ID)
}
