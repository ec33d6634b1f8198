package hypervisor

import (
	"context"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// refresh asks libvirtd for all that the mirror has of a domain, in one go.
// vmnetd.ErrNotFound: it no longer has it.
func (l *Libvirt) refresh(ctx context.Context, uuid lvUUID) (lvDomain, error) {
	for {
		asked := l.heardOf(uuid)
		var got lvDomain
		err := l.query(ctx, func(lv *libvirt.Libvirt) (err error) { got, err = lvAsk(lv, uuid); return err })
		switch {
		case isLv(err, libvirt.ErrNoDomain):
			l.drop(uuid)
			return lvDomain{}, vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt has no VM %s any more", uuidText(uuid))
		case err != nil:
			return lvDomain{}, lvRefused("", "tell about its VMs", err)
		case !l.take(got, asked):
			return got, nil
		}
	}
}

func (l *Libvirt) heardOf(uuid lvUUID) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.domains[uuid]; d != nil {
		return d.heard
	}
	return 0
}

// lvAsk is the questions. A domain that ends between two of them is shut off.
func lvAsk(lv *libvirt.Libvirt, uuid lvUUID) (lvDomain, error) {
	dom, err := lv.DomainLookupByUUID(uuid)
	if err != nil {
		return lvDomain{}, err
	}
	d := lvDomain{name: dom.Name, uuid: dom.UUID, id: dom.ID}
	state, reason, err := lv.DomainGetState(dom, 0)
	if err != nil {
		return d, err
	}
	d.state, d.reason = libvirt.DomainState(state), reason
	persistent, err := lv.DomainIsPersistent(dom)
	if err != nil {
		return d, err
	}
	d.persistent = persistent == 1
	if !d.active() {
		return d, nil
	}
	text, err := lv.DomainGetXMLDesc(dom, 0)
	if err != nil {
		return d, err
	}
	x, err := domxml.Parse(text)
	if err != nil {
		d.problem = err.Error() // it runs all the same
		return d, nil           //nolint:nilerr // told to who needs its XML
	}
	if x.ID == 0 {
		d.stops()
		return d, nil
	}
	d.id, d.xml = int32(x.ID), &x
	return d, nil
}

// Find looks a running VM up in the mirror; libvirtd is not asked.
// vmnetd.ErrNotFound: libvirt does not know it, or it is shut off.
// vmnetd.ErrFailed: libvirtd has not told of its VMs since we began, so nothing is
// known.
func (l *Libvirt) Find(_ context.Context, name, via string) (VM, error) {
	if err := checkViaLibvirt(name, via); err != nil {
		return VM{}, err
	}
	untold := l.untold() // before the mirror: it may become full in between
	d, ok := l.byName(name)
	switch {
	case ok && d.active():
		return d.vm(), nil
	case ok:
		return VM{}, shutOff(name)
	case untold != nil:
		return VM{}, untold
	}
	return VM{}, unknownToLibvirt(name)
}

// Ask is Find that asks libvirtd.
func (l *Libvirt) Ask(ctx context.Context, name, via string) (VM, error) {
	if err := checkViaLibvirt(name, via); err != nil {
		return VM{}, err
	}
	d, err := l.lookup(ctx, name)
	if err != nil {
		return VM{}, err
	}
	if !d.active() {
		return VM{}, shutOff(name)
	}
	return d.vm(), nil
}

// lookup asks libvirtd for a domain by its name.
func (l *Libvirt) lookup(ctx context.Context, name string) (lvDomain, error) {
	var dom libvirt.Domain
	err := l.query(ctx, func(lv *libvirt.Libvirt) (err error) { dom, err = lv.DomainLookupByName(name); return err })
	switch {
	case isLv(err, libvirt.ErrNoDomain):
		return lvDomain{}, unknownToLibvirt(name)
	case err != nil:
		return lvDomain{}, lvRefused(name, "tell about its VMs", err)
	}
	return l.refresh(ctx, dom.UUID)
}

func checkViaLibvirt(name, via string) error {
	if via != "" && via != viaLibvirt {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no way to a VM of libvirt", via).WithNext("write libvirt")
	}
	return vmnetd.CheckVMName(name)
}

func unknownToLibvirt(name string) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt does not know VM %s", vmnetd.Printable(name)).WithNext("virsh list --all")
}

// untold is why it is not known which VMs there are; nil when that was told once.
func (l *Libvirt) untold() error {
	if l.everListed() {
		return nil
	}
	s, err := l.session()
	if err == nil {
		err = lvNoAnswer(s.path, errLvNotListed)
	}
	return err
}

func (l *Libvirt) everListed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listed
}
