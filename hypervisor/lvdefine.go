package hypervisor

import (
	"context"
	"fmt"
	"maps"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// What libvirt keeps is read with its secrets: a definition that is written back
// without them has lost them (VIR_DOMAIN_XML_SECURE).
const lvKept = libvirt.DomainXMLInactive | libvirt.DomainXMLSecure

const lvMetadataKey = "vmnetd"

// Definition is what libvirt keeps of a VM, running or not, with its secrets. Of
// a transient VM, of which it keeps nothing, Running is true and XML is "".
// vmnetd.ErrNotFound: libvirt does not know it.
func (l *Libvirt) Definition(ctx context.Context, name string) (Definition, error) {
	_, def, err := l.definition(ctx, name)
	return def, err
}

func (l *Libvirt) definition(ctx context.Context, name string) (lvDomain, Definition, error) {
	if err := vmnetd.CheckVMName(name); err != nil {
		return lvDomain{}, Definition{}, err
	}
	d, err := l.lookup(ctx, name)
	if err == nil {
		err = l.settled(ctx, d.uuid)
	}
	if err != nil {
		return d, Definition{}, err
	}
	if !d.persistent {
		return d, transient(d), nil
	}
	def := Definition{Running: d.active()}
	err = l.query(ctx, func(lv *libvirt.Libvirt) (err error) { def.XML, err = lv.DomainGetXMLDesc(d.ref(), lvKept); return err })
	if err != nil {
		return d, Definition{}, lvRefused(name, "tell the definition of VM "+vmnetd.Printable(name), err)
	}
	if def.Domain, err = domxml.Parse(def.XML); err != nil {
		return d, Definition{}, vmnetd.Errorf(vmnetd.ErrFailed, "the definition of VM %s cannot be used: %w", vmnetd.Printable(name), err)
	}
	return d, def, nil
}

func transient(d lvDomain) Definition {
	def := Definition{Running: d.active()}
	if d.xml != nil {
		def.Domain = *d.xml
	}
	return def
}

// toChange is definition for who means to change it.
func (l *Libvirt) toChange(ctx context.Context, name string) (lvDomain, Definition, error) {
	d, def, err := l.definition(ctx, name)
	if err == nil && def.XML == "" {
		err = vmnetd.Errorf(vmnetd.ErrBusy, "VM %s is transient: it has no definition", vmnetd.Printable(name)).
			WithNext("attach to the running VM alone: vmnetd attach --live " + vmnetd.Printable(name))
	}
	return d, def, err
}

// Define writes a NIC into a VM's definition, in the place of the one of that
// device or id: first what the metadata asks for, then the interface, so that
// there is never an interface of which nothing is said. vmnetd.ErrBusy: the VM
// is transient, or another interface has that MAC or device. Nothing is changed
// when it fails.
func (l *Libvirt) Define(ctx context.Context, name string, el domxml.Element) (changed bool, err error) {
	d, def, err := l.toChange(ctx, name)
	if err != nil {
		return false, err
	}
	old, has, err := place(def, el)
	if err != nil {
		return false, err
	}
	if el.Addr == "" && has {
		el.Addr = old.Addr
	}
	meta := asking(def, old.MAC, el.NIC)
	kept := slices.Equal(meta, def.NICs)
	if has && same(old, el) {
		return !kept, l.setMetadata(ctx, d, def, meta, libvirt.DomainAffectConfig)
	}
	if err := l.setMetadata(ctx, d, def, meta, libvirt.DomainAffectConfig); err != nil {
		return false, err
	}
	if err := l.swap(ctx, d, def, old.Target, el.XML()); err != nil {
		return false, l.back(ctx, err, func(ctx context.Context) error {
			return l.setMetadata(ctx, d, Definition{Domain: domxml.Domain{NICs: meta, Labels: def.Labels}}, def.NICs, libvirt.DomainAffectConfig)
		})
	}
	return true, nil
}

// Undefine takes a NIC out of a VM's definition, by its device or by the id that
// the metadata gives it; one that is not there is fine.
func (l *Libvirt) Undefine(ctx context.Context, name string, nic NIC) (changed bool, err error) {
	d, def, err := l.toChange(ctx, name)
	if err != nil {
		return false, err
	}
	old, has := ours(def, nic.Ifname, nic.ID)
	meta := slices.DeleteFunc(slices.Clone(def.NICs), func(n domxml.NIC) bool {
		return has && n.MAC == old.MAC || nic.ID != "" && n.ID == nic.ID
	})
	if !has && len(meta) == len(def.NICs) {
		return false, nil
	}
	if has {
		if err := l.swap(ctx, d, def, old.Target, ""); err != nil {
			return false, err
		}
	}
	if err := l.setMetadata(ctx, d, def, meta, libvirt.DomainAffectConfig); err != nil {
		if !has {
			return false, err
		}
		return false, l.back(ctx, err, func(ctx context.Context) error { return l.putBack(ctx, d, def, old.Target) })
	}
	return true, nil
}

// ours finds the interface of a device, or of the NIC that the metadata calls id.
func ours(def Definition, ifname, id string) (domxml.Interface, bool) {
	if i, ok := byTarget(def.Interfaces, ifname); ok && ifname != "" {
		return i, true
	}
	for _, n := range def.NICs {
		if id == "" || n.ID != id {
			continue
		}
		for _, i := range def.Interfaces {
			if i.MAC == n.MAC && i.Ours() {
				return i, true
			}
		}
	}
	return domxml.Interface{}, false
}

// place finds the interface that an element replaces, and refuses one that
// stands in its way.
func place(def Definition, el domxml.Element) (old domxml.Interface, has bool, err error) {
	old, has = ours(def, el.Target, el.ID)
	busy := func(i domxml.Interface, what string) error {
		return vmnetd.Errorf(vmnetd.ErrBusy, "another interface of VM %s (type %s, device %s, MAC %s) has the %s", vmnetd.Printable(def.Name), vmnetd.Printable(i.Type), orDash(i.Target), i.MAC, what).
			WithNext("virsh domiflist --inactive " + vmnetd.Printable(def.Name))
	}
	if has && !old.Ours() {
		return old, has, busy(old, "device "+el.Target)
	}
	for _, i := range def.Interfaces {
		switch {
		case has && i == old:
		case i.MAC == el.MAC:
			return old, has, busy(i, "MAC "+el.MAC)
		case i.Target == el.Target:
			return old, has, busy(i, "device "+el.Target)
		}
	}
	return old, has, nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return vmnetd.Printable(s)
}

func same(i domxml.Interface, el domxml.Element) bool {
	return i.Target == el.Target && i.MAC == el.MAC && !i.Managed && i.Model == "virtio" && i.Queues == max(el.Queues, 1) &&
		i.MTU == el.MTU && i.Addr == el.Addr && i.LinkDown == el.LinkDown
}

// asking is the metadata with a NIC in the place of the one of its MAC or id, or
// of the MAC that its interface had before.
func asking(def Definition, before string, n domxml.NIC) []domxml.NIC {
	return slices.DeleteFunc(def.WithNIC(n), func(o domxml.NIC) bool { return o.MAC == before && o.MAC != n.MAC })
}

// swap takes the interface of a device out of the definition and puts another in;
// "" stands for none. The first is put back when the second fails.
func (l *Libvirt) swap(ctx context.Context, d lvDomain, def Definition, target, with string) error {
	what := "change the definition of VM " + vmnetd.Printable(d.name)
	if target != "" {
		text, err := domxml.InterfaceText(def.XML, target)
		if err != nil {
			return err
		}
		err = l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) error {
			return lv.DomainDetachDeviceFlags(d.ref(), text, uint32(libvirt.DomainDeviceModifyConfig))
		})
		if err != nil {
			return lvRefused(d.name, what, err)
		}
	}
	if with == "" {
		return nil
	}
	err := l.attachKept(ctx, d, with)
	if err != nil && target != "" {
		return l.back(ctx, lvRefused(d.name, what, err), func(ctx context.Context) error { return l.putBack(ctx, d, def, target) })
	}
	return lvRefused(d.name, what, err)
}

func (l *Libvirt) attachKept(ctx context.Context, d lvDomain, text string) error {
	return l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) error {
		return lv.DomainAttachDeviceFlags(d.ref(), text, uint32(libvirt.DomainDeviceModifyConfig))
	})
}

func (l *Libvirt) putBack(ctx context.Context, d lvDomain, def Definition, target string) error {
	text, err := domxml.InterfaceText(def.XML, target)
	if err != nil {
		return err
	}
	return l.attachKept(ctx, d, text)
}

// back undoes what was done before cause, also when the caller has gone.
func (l *Libvirt) back(ctx context.Context, cause error, undo func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.limits.Undo)
	defer cancel()
	if err := undo(ctx); err != nil {
		return fmt.Errorf("%w (and taking it back failed: %w)", cause, err)
	}
	return cause
}

// setMetadata writes the NICs into the metadata of the definition or of the run;
// labels stay.
func (l *Libvirt) setMetadata(ctx context.Context, d lvDomain, was Definition, nics []domxml.NIC, of libvirt.DomainModificationImpact) error {
	if slices.Equal(was.NICs, nics) {
		return nil
	}
	text := domxml.Metadata(nics, maps.Clone(was.Labels))
	var element libvirt.OptString
	if text != "" {
		element = libvirt.OptString{text}
	}
	err := l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) error {
		return lv.DomainSetMetadata(d.ref(), int32(libvirt.DomainMetadataElement), element,
			libvirt.OptString{lvMetadataKey}, libvirt.OptString{domxml.NS}, of)
	})
	return lvRefused(d.name, "write metadata of VM "+vmnetd.Printable(d.name), err)
}

// Redefine replaces a definition. vmnetd.ErrBusy: the VM runs, or what libvirt
// keeps of it is no longer what was read.
func (l *Libvirt) Redefine(ctx context.Context, was Definition, text string) error {
	d, now, err := l.toChange(ctx, was.Name)
	shown := vmnetd.Printable(was.Name)
	switch {
	case err != nil:
		return err
	case d.active():
		return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s runs", shown).WithNext("virsh shutdown " + shown)
	case now.XML != was.XML:
		return vmnetd.Errorf(vmnetd.ErrBusy, "the definition of VM %s was changed meanwhile", shown).WithNext("try again")
	}
	err = l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) error {
		_, err := lv.DomainDefineXMLFlags(text, 0)
		return err
	})
	return lvRefused(was.Name, "define VM "+shown, err)
}
