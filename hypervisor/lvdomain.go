package hypervisor

import (
	"fmt"
	"slices"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// lvDomain is what is known of a domain. Its fields are replaced, never changed
// in place: a copy is a picture of it.
type lvDomain struct {
	name       string
	uuid       lvUUID
	id         int32 // of this run, -1 when it is shut off
	state      libvirt.DomainState
	reason     int32
	persistent bool
	ran        bool           // its CPUs were seen running in this run
	xml        *domxml.Domain // nil: not read yet, or shut off
	problem    string         // why it cannot be read

	heard  uint64 // events so far: what was asked before the last one is old
	before uint64 // those of earlier connections
}

func (d *lvDomain) active() bool { return d.id > 0 }

func (d *lvDomain) running() bool {
	return d.active() && (d.state == libvirt.DomainRunning || d.state == libvirt.DomainBlocked)
}

// incoming says whether it waits for a guest from elsewhere. libvirt has the same
// reason for the guest that has just left (qemu_migration.c), but that one ran.
func (d *lvDomain) incoming() bool {
	return d.state == libvirt.DomainPaused && !d.ran &&
		slices.Contains([]int32{int32(libvirt.DomainPausedMigration), int32(libvirt.DomainPausedStartingUp), int32(libvirt.DomainPausedPostcopy)}, d.reason)
}

func (d *lvDomain) ref() libvirt.Domain {
	return libvirt.Domain{Name: d.name, UUID: d.uuid, ID: d.id}
}

// instance tells one run from the next: libvirtd counts the runs, also over a
// restart of its own while any VM runs (domain_conf.c, lastvmid).
func (d *lvDomain) instance() string { return fmt.Sprintf("%s:%d", uuidText(d.uuid), d.id) }

func (d *lvDomain) vm() VM {
	vm := VM{
		Name: d.name, UUID: uuidText(d.uuid), Via: viaLibvirt, Instance: d.instance(),
		Running: d.running(), Halted: !d.running(), Incoming: d.incoming(), Persistent: d.persistent,
	}
	if d.xml != nil {
		vm.VCPUs, vm.Labels, vm.NICs = d.xml.VCPUs, d.xml.Labels, d.xml.NICs
		vm.Ifnames = make([]string, 0, len(d.xml.Interfaces))
		for _, i := range d.xml.Interfaces {
			if i.Target != "" {
				vm.Ifnames = append(vm.Ifnames, i.Target)
			}
		}
	}
	return vm
}

// byTarget finds the interface of a device.
func (d *lvDomain) byTarget(ifname string) (domxml.Interface, bool) {
	if d.xml == nil {
		return domxml.Interface{}, false
	}
	return byTarget(d.xml.Interfaces, ifname)
}

func byTarget(list []domxml.Interface, ifname string) (domxml.Interface, bool) {
	i := slices.IndexFunc(list, func(i domxml.Interface) bool { return i.Target == ifname })
	if i < 0 {
		return domxml.Interface{}, false
	}
	return list[i], true
}

func uuidText(u lvUUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// sighting is what is told of a domain.
func (d *lvDomain) sighting() Sighting {
	return Sighting{Name: d.name, Via: viaLibvirt, Here: d.active()}
}

// shutOff is the error for a domain that does not run.
func shutOff(name string) error {
	shown := vmnetd.Printable(name)
	return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s is shut off", shown).
		WithNext("virsh start " + shown + ", or write the NIC into its definition: vmnetd attach --config " + shown)
}

func (l *Libvirt) byName(name string) (lvDomain, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.domains {
		if d.name == name {
			return *d, true
		}
	}
	return lvDomain{}, false
}

// Names is the domains that libvirt knows, running or not, by name.
func (l *Libvirt) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.domains))
	for _, d := range l.domains {
		names = append(names, d.name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// runs says whether a domain of that name is active, as far as is known.
func (l *Libvirt) runs(name string) bool {
	d, ok := l.byName(name)
	return ok && d.active()
}
