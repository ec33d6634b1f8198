package hypervisor

import (
	"reflect"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// lvWakeup is the detail of "started" for a guest that wakes from S3
// (VIR_DOMAIN_EVENT_STARTED_WAKEUP).
const lvWakeup = 4

// lvDevice is a device of a domain by its alias.
type lvDevice struct {
	uuid  lvUUID
	alias string
}

// hear takes an event into the mirror at once: it may be the one that ends the
// outage of a live migration. What has to be asked for is asked for by refresh.
func (l *Libvirt) hear(ev lvEvent, refresh func(lvUUID)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.known(ev)
	d.heard++
	before := *d
	told := d.sighting()
	switch ev.proc {
	case lvLifecycle:
		if lvTakeLifecycle(d, ev) {
			refresh(d.uuid)
		}
	case lvMonitor:
		told.Filter = lvTakeMonitor(d, ev.text)
		if d.active() && d.xml == nil {
			refresh(d.uuid)
		}
	case lvDeviceRemoved, lvRemovalFailed:
		l.removed(d, ev)
		refresh(d.uuid)
	default:
		refresh(d.uuid)
	}
	if d.state != before.state || d.id != before.id || told.Filter {
		told.Here = d.active()
		l.tell.say(told)
	}
}

// known finds the domain of an event, or begins it. A run that is new is known
// only by its state: its definition is still to be read.
func (l *Libvirt) known(ev lvEvent) *lvDomain {
	d := l.domains[ev.dom.UUID]
	if d == nil {
		d = &lvDomain{name: ev.dom.Name, uuid: ev.dom.UUID, id: -1, state: libvirt.DomainShutoff}
		l.domains[ev.dom.UUID] = d
	}
	if ev.dom.ID > 0 && ev.dom.ID != d.id {
		d.id, d.xml, d.problem, d.ran = ev.dom.ID, nil, "", false
		d.state, d.reason = libvirt.DomainPaused, int32(libvirt.DomainPausedUnknown)
	}
	return d
}

// lvTakeLifecycle says whether the rest has to be asked for.
func lvTakeLifecycle(d *lvDomain, ev lvEvent) (ask bool) {
	switch ev.event {
	case libvirt.DomainEventSuspended:
		d.halts(libvirt.DomainPaused)
	case libvirt.DomainEventResumed:
		d.goes()
	case libvirt.DomainEventStopped:
		d.stops()
		return true
	case libvirt.DomainEventShutdown:
		d.halts(libvirt.DomainShutdown)
	case libvirt.DomainEventPmsuspended:
		d.halts(libvirt.DomainPmsuspended)
	case libvirt.DomainEventCrashed:
		d.halts(libvirt.DomainCrashed)
	case libvirt.DomainEventStarted:
		if ev.detail == lvWakeup {
			d.goes()
		}
		return true
	default: // defined, undefined
		return true
	}
	return d.xml == nil
}

func lvTakeMonitor(d *lvDomain, name string) (filter bool) {
	switch name {
	case "RESUME":
		d.goes()
	case "STOP":
		d.halts(libvirt.DomainPaused)
	case "NIC_RX_FILTER_CHANGED", "RESET": // a reboot puts the NIC back to its own MAC (hw/net/virtio-net.c, virtio_net_reset)
		return true
	}
	return false
}

func (d *lvDomain) goes() {
	if d.active() {
		d.state, d.reason, d.ran = libvirt.DomainRunning, 0, true
	}
}

func (d *lvDomain) halts(s libvirt.DomainState) {
	if d.active() {
		d.state, d.reason = s, 0
	}
}

func (d *lvDomain) stops() {
	d.id, d.state, d.reason, d.xml, d.ran = -1, libvirt.DomainShutoff, 0, nil, false
}

// removed wakes who waits for a device to go.
func (l *Libvirt) removed(d *lvDomain, ev lvEvent) {
	key := lvDevice{d.uuid, ev.text}
	if c, ok := l.waiting[key]; ok {
		delete(l.waiting, key)
		c <- ev.proc == lvDeviceRemoved
	}
}

// take puts what libvirtd answered into the mirror and tells it when it differs.
// asked is the events that had been heard when the question was asked: a state
// that is older than an event does not count, and the caller asks again.
func (l *Libvirt) take(got lvDomain, asked uint64) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.domains[got.uuid]
	if d == nil {
		d = &lvDomain{uuid: got.uuid, id: -1}
		l.domains[got.uuid] = d
	}
	before := *d
	got.heard, got.before, got.ran = d.heard, d.before, got.running() || d.ran && d.id == got.id
	if d.heard != asked {
		return true
	}
	*d = got
	if !reflect.DeepEqual(before, *d) {
		if before.name != "" && before.name != d.name {
			l.tell.say(Sighting{Name: before.name, Via: viaLibvirt})
		}
		l.tell.say(d.sighting())
	}
	return false
}

// added puts a NIC into the mirror that libvirtd has just taken, before its event
// comes: libvirt takes one of the same device a second time. What was asked before
// is old by now.
func (l *Libvirt) added(of lvDomain, nic NIC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.domains[of.uuid]
	if d == nil || d.id != of.id || d.xml == nil {
		return
	}
	d.heard++
	if _, there := d.byTarget(nic.Ifname); there {
		return
	}
	now := *d.xml
	now.Interfaces = append(slices.Clone(now.Interfaces), domxml.Interface{
		Type: "ethernet", MAC: nic.MAC.String(), Target: nic.Ifname, Queues: nic.Queues, MTU: nic.MTU, Addr: nic.Addr,
	})
	d.xml = &now
}

// drop forgets a domain that libvirtd no longer has.
func (l *Libvirt) drop(uuid lvUUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.domains[uuid]; d != nil {
		delete(l.domains, uuid)
		l.tell.say(Sighting{Name: d.name, Via: viaLibvirt})
	}
}
