package agenttest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

const viaLibvirt = "libvirt"

// domain is a VM that libvirt knows. As in libvirtd, whoever starts or stops it,
// or asks about it, waits for the others, also while its hook runs.
type domain struct {
	job     sync.Mutex
	name    string
	defined []domxml.Element
	running bool
	runs    int
}

// Hook is what libvirtd runs: an error at prepare keeps a domain from starting.
type Hook func(vm, op, sub, xml string) error

// wait waits until nobody works on a domain of that name, and gives the end of
// one's own work.
func (w *World) wait(name string) (done func()) {
	w.mu.Lock()
	d := w.domains[name]
	w.mu.Unlock()
	if d == nil {
		return func() {}
	}
	d.job.Lock()
	return d.job.Unlock
}

// DefineDomain gives libvirt a definition.
func (w *World) DefineDomain(name string, nics ...domxml.Element) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.domains[name] = &domain{name: name, defined: nics}
}

// xml is the domain as libvirt writes it.
func (d *domain) xml() string {
	text := "<domain type='kvm'><name>" + d.name + "</name><vcpu>2</vcpu><metadata>"
	var nics []domxml.NIC
	for _, e := range d.defined {
		nics = append(nics, e.NIC)
	}
	text += strings.Replace(domxml.Metadata(nics, nil), "<nics", "<nics xmlns='"+domxml.NS+"'", 1) + "</metadata><devices>"
	for _, e := range d.defined {
		text += e.XML()
	}
	return text + "</devices></domain>"
}

// DomainXML is the definition as libvirtd's hook gets it.
func (w *World) DomainXML(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.domains[name].xml()
}

// StartDomain starts a domain with its CPUs running, or not.
func (w *World) StartDomain(name string, running bool, hook Hook) error {
	defer w.wait(name)()
	w.mu.Lock()
	d := w.domains[name]
	if d.running {
		w.mu.Unlock()
		return vmnetd.Errorf(vmnetd.ErrBusy, "domain is already running")
	}
	xml := d.xml()
	w.mu.Unlock()
	err := hook(name, "prepare", "begin", xml)
	if err == nil {
		err = w.boot(d, running)
	}
	if err != nil {
		_ = hook(name, "release", "end", xml)
	}
	return err
}

// boot has QEMU open the devices by their names.
func (w *World) boot(d *domain, running bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &vm{nics: map[string]nic{}}
	for _, e := range d.defined {
		dev := w.devices[e.Target]
		if dev == nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "there is no device %s", e.Target)
		}
		v.nics[e.ID] = nic{ifname: e.Target, ifindex: dev.Ifindex, linkUp: true}
	}
	d.running = true
	d.runs++
	v.info = hypervisor.VM{
		Name: d.name, Via: viaLibvirt, Instance: fmt.Sprint(d.name, " run ", d.runs), VCPUs: 2,
		Running: running, Halted: !running, Persistent: true,
	}
	w.vms[d.name] = v
	w.sighted(v, true)
	return nil
}

// StopDomain ends a domain.
func (w *World) StopDomain(name string, hook Hook) {
	defer w.wait(name)()
	w.mu.Lock()
	d, v := w.domains[name], w.vms[name]
	if !d.running {
		w.mu.Unlock()
		return
	}
	d.running = false
	delete(w.vms, name)
	w.mu.Unlock()
	_ = hook(name, "stopped", "end", d.xml())
	_ = hook(name, "release", "end", d.xml())
	w.mu.Lock()
	w.sighted(v, false)
	w.mu.Unlock()
}

// RestartLibvirtd is a restart of libvirtd while no domain runs: it counts their runs
// anew.
func (w *World) RestartLibvirtd() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.domains {
		d.runs = 0
	}
}

// SetHalted stops a domain's CPUs, or lets them run.
func (w *World) SetHalted(name string, halted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.vms[name]
	v.info.Halted, v.info.Running = halted, !halted
	w.sighted(v, true)
}

// SetIncoming has a VM wait for a migration, or run where it has come to. It tells
// nobody.
func (w *World) SetIncoming(name string, incoming bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.vms[name]
	v.info.Incoming, v.info.Running = incoming, !incoming
}

// TakeOut detaches a NIC as virsh does.
func (w *World) TakeOut(name, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.vms[name]
	delete(v.nics, id)
	w.sighted(v, true)
}

// SetGuestMAC has a guest give its NIC another MAC.
func (w *World) SetGuestMAC(name, id, mac string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.vms[name]
	n := v.nics[id]
	n.mac, _ = net.ParseMAC(mac)
	v.nics[id] = n
	for _, f := range w.onVM {
		go f(hypervisor.Sighting{Name: name, Via: v.info.Via, Here: true, Filter: true})
	}
}

// Defined is the NICs of a domain's definition.
func (w *World) Defined(name string) []domxml.Element {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.domains[name].defined)
}

// told is a VM as its hypervisor tells of it.
func (v *vm) told() hypervisor.VM {
	info := v.info
	if info.Via != viaLibvirt {
		return info
	}
	info.Ifnames = []string{}
	for _, n := range v.nics {
		info.Ifnames = append(info.Ifnames, n.ifname)
	}
	return info
}

// Definition implements agent.Hypervisor.
func (f Hypervisor) Definition(_ context.Context, name string) (def hypervisor.Definition, err error) {
	defer f.W.wait(name)()
	err = f.W.do("Definition", func() error {
		d := f.W.domains[name]
		if d == nil {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt keeps no definition of VM %s", name)
		}
		def = hypervisor.Definition{XML: d.xml(), Running: d.running}
		def.Domain, err = domxml.Parse(def.XML)
		return err
	})
	return def, err
}

// Define implements agent.Hypervisor.
func (f Hypervisor) Define(_ context.Context, name string, e domxml.Element) (changed bool, err error) {
	defer f.W.wait(name)()
	err = f.W.do("Define", func() error {
		d := f.W.domains[name]
		if d == nil {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt keeps no definition of VM %s", name)
		}
		i := slices.IndexFunc(d.defined, func(was domxml.Element) bool { return was.Target == e.Target })
		switch {
		case i < 0:
			d.defined, changed = append(d.defined, e), true
		case d.defined[i] != e:
			d.defined[i], changed = e, true
		}
		return nil
	})
	return changed, err
}

// Undefine implements agent.Hypervisor.
func (f Hypervisor) Undefine(_ context.Context, name string, n hypervisor.NIC) (changed bool, err error) {
	defer f.W.wait(name)()
	err = f.W.do("Undefine", func() error {
		d := f.W.domains[name]
		if d == nil {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt keeps no definition of VM %s", name)
		}
		before := len(d.defined)
		d.defined = slices.DeleteFunc(d.defined, func(e domxml.Element) bool { return e.Target == n.Ifname })
		changed = len(d.defined) < before
		return nil
	})
	return changed, err
}

// Redefine implements agent.Hypervisor.
func (f Hypervisor) Redefine(_ context.Context, was hypervisor.Definition, _ string) error {
	defer f.W.wait(was.Name)()
	return f.W.do("Redefine", func() error { return nil })
}
