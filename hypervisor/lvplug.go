package hypervisor

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// enter reads a domain that was found before afresh, once every earlier change
// of it has ended, and makes sure that it is still that run of it.
func (l *Libvirt) enter(ctx context.Context, vm VM) (lvDomain, error) {
	uuid, ok := uuidOf(vm)
	if !ok {
		d, err := l.lookup(ctx, vm.Name)
		if err != nil {
			return lvDomain{}, err
		}
		uuid = d.uuid
	}
	if err := l.settled(ctx, uuid); err != nil {
		return lvDomain{}, err
	}
	d, err := l.refresh(ctx, uuid)
	switch {
	case err != nil:
		return lvDomain{}, err
	case !d.active():
		return lvDomain{}, shutOff(vm.Name)
	case vm.Instance != "" && vm.Instance != d.instance():
		return lvDomain{}, vmnetd.Errorf(vmnetd.ErrNotFound, "%w: VM %s", ErrOtherRun, vmnetd.Printable(vm.Name)).WithNext("try again")
	case d.xml == nil:
		return lvDomain{}, vmnetd.Errorf(vmnetd.ErrFailed, "what libvirt says of VM %s cannot be used: %s", vmnetd.Printable(vm.Name), d.problem)
	}
	return d, nil
}

// enterKnown is enter by the mirror, where events keep it true: a question costs
// as much as a change.
func (l *Libvirt) enterKnown(ctx context.Context, vm VM) (lvDomain, error) {
	if d, ok := l.sureOf(vm); ok {
		return d, nil
	}
	return l.enter(ctx, vm)
}

// sureOf is what the mirror has of a run of a VM, if that is all there is to know.
func (l *Libvirt) sureOf(vm VM) (lvDomain, bool) {
	uuid, _ := uuidOf(vm)
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.domains[uuid]
	if l.now == nil || l.unsure[uuid] != nil || d == nil || d.xml == nil || d.instance() != vm.Instance {
		return lvDomain{}, false
	}
	return *d, true
}

func uuidOf(vm VM) (u lvUUID, ok bool) {
	text, _, _ := strings.Cut(vm.Instance, ":")
	if text == "" {
		text = vm.UUID
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	return u, err == nil && copy(u[:], b) == len(u) && len(b) == len(u)
}

// Plug has libvirtd open the device nic.Ifname by itself: nic.Open is not
// called. A NIC of that device that is plugged already is fine. Nothing is left
// when it fails. Where libvirtd has put the NIC, Plugged tells: it costs a question.
func (l *Libvirt) Plug(ctx context.Context, vm VM, nic NIC) (Place, error) {
	if nic.ByFD {
		return l.fd.plug(ctx, vm, nic)
	}
	if err := checkNamedNIC(nic); err != nil {
		return Place{}, err
	}
	d, err := l.enterKnown(ctx, vm)
	if err != nil {
		return Place{}, err
	}
	if i, ok := d.byTarget(nic.Ifname); ok {
		place := d.placeOf(i)
		place.Already = true
		return place, l.remember(ctx, d, nic)
	}
	if err := d.lacks(nic); err != nil {
		return Place{}, err
	}
	if err := l.attach(ctx, d, nic); err != nil {
		return Place{}, l.takeBack(ctx, vm, nic, attachRefused(d.name, nic, err))
	}
	l.rememberBeside(d, nic)
	return d.placeOf(domxml.Interface{Addr: nic.Addr}), nil
}

// lacks refuses a second NIC of one MAC, as guests of ipvtaps have: metadata names NICs
// by it, and a VM that is saved or moved would come back with one of the two.
func (d *lvDomain) lacks(nic NIC) error {
	i := slices.IndexFunc(d.xml.Interfaces, func(i domxml.Interface) bool { return i.MAC == nic.MAC.String() })
	if i < 0 {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s has a NIC with MAC %s already (%s), and libvirt's metadata tells NICs apart by that",
		vmnetd.Printable(d.name), nic.MAC, orDash(d.xml.Interfaces[i].Target)).WithNext("take another uplink, or add --handover fd")
}

// placeOf is where libvirt has plugged an interface. It opens vhost-net unless the
// domain is not of type kvm or its interface wants none (qemu/qemu_interface.c,
// qemuInterfaceOpenVhostNet).
func (d *lvDomain) placeOf(i domxml.Interface) Place {
	place := Place{Addr: i.Addr}
	switch {
	case d.xml.Type != "kvm":
		place.NoVHost = "libvirt opens it for a domain of type kvm only, and this one is of type " + vmnetd.Printable(d.xml.Type)
	case i.Driver == "qemu":
		place.NoVHost = "the domain has <driver name='qemu'> for this NIC"
	}
	return place
}

func (l *Libvirt) attach(ctx context.Context, d lvDomain, nic NIC) error {
	text := nicElement(nic).XML()
	err := l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) error {
		return lv.DomainAttachDeviceFlags(d.ref(), text, uint32(libvirt.DomainDeviceModifyLive))
	})
	if err == nil {
		err = l.hit(failpoint.HandoverDevice)
	}
	if err == nil {
		l.added(d, nic)
	}
	return err
}

func checkNamedNIC(nic NIC) error {
	if err := vmnetd.CheckID(nic.ID); err != nil {
		return err
	}
	if len(nic.MAC) != 6 || !strings.HasPrefix(nic.Ifname, vmnetd.IfnamePrefix) {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "NIC %s has no MAC or no device", nic.ID)
	}
	return CheckNamedPlace(nic.Bus, nic.Addr)
}

// CheckNamedPlace refuses a place that an <interface> cannot say.
func CheckNamedPlace(bus, addr string) error {
	switch {
	case bus != "":
		return vmnetd.Errorf(vmnetd.ErrInvalid, "libvirt names a NIC's place by its PCI address alone, not by a bus (%s)", vmnetd.Printable(bus)).
			WithNext("leave --bus out: libvirt finds a free port")
	case addr != "" && !domxml.IsPCI(addr):
		return notPCI(addr)
	}
	return nil
}

func notPCI(addr string) error {
	return vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no PCI address as libvirt names a NIC's place", addr).WithNext("write it as 0000:05:00.0, or leave it out")
}

func nicElement(nic NIC) domxml.Element {
	return domxml.Element{
		NIC:    domxml.NIC{MAC: nic.MAC.String(), ID: nic.ID, Network: nic.Network, Mode: nic.Mode, IPs: nic.IPs},
		Target: nic.Ifname, Queues: nic.Queues, MTU: nic.MTU, Addr: nic.Addr,
	}
}

// takeBack makes sure that a NIC whose attach failed is not there after all,
// also when the caller has gone. A change that goes on without us is waited for.
func (l *Libvirt) takeBack(ctx context.Context, vm VM, nic NIC, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.limits.Undo)
	defer cancel()
	if err := l.Unplug(ctx, vm, nic); err != nil {
		return fmt.Errorf("%w (and taking it back failed: %w)", cause, err)
	}
	return cause
}

// attachRefused adds to libvirt's own words what to do.
func attachRefused(name string, nic NIC, err error) error {
	told := lvRefused(name, "attach the NIC to VM "+vmnetd.Printable(name), err)
	e, ok := told.(*vmnetd.Error) //nolint:errorlint // made above
	switch {
	case !ok:
	case strings.Contains(e.Text, "No more available PCI slots"): // conf/domain_addr.c
		return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s has no free PCIe port: no NIC can be hot-plugged", vmnetd.Printable(name)).
			WithNext("add <controller type='pci' model='pcie-root-port'/>, restart " + vmnetd.Printable(name))
	case strings.Contains(e.Text, "double use of PCI Address"):
		return vmnetd.Errorf(vmnetd.ErrBusy, "the place %s in VM %s is taken", nic.Addr, vmnetd.Printable(name)).
			WithNext("leave the place out: libvirt finds a free one")
	case strings.Contains(e.Text, "specified dev doesn't exist"): // qemu/qemu_interface.c
		return vmnetd.Errorf(vmnetd.ErrFailed, "libvirtd sees no device %s: it was deleted, or libvirtd lives in another network namespace than vmnetd", nic.Ifname).
			WithNext("start both in the same network namespace; vmnetd doctor")
	case strings.Contains(e.Text, "domain is not running"):
		return shutOff(name)
	}
	return told
}

// Plugged says whether libvirt has the NIC in the VM, and where.
func (l *Libvirt) Plugged(ctx context.Context, vm VM, nic NIC) (Place, bool, error) {
	if nic.ByFD {
		return l.fd.plugged(ctx, vm, nic)
	}
	d, err := l.enter(ctx, vm)
	if err != nil {
		return Place{}, false, err
	}
	i, ok := d.byTarget(nic.Ifname)
	return Place{Addr: i.Addr, Already: ok, MAC: i.MAC}, ok, nil
}
