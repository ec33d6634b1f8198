package config

import (
	"slices"

	"github.com/vmnetd/vmnetd/policy"
)

type rawHypervisors struct {
	libvirt rawLibvirt
	qmp     rawQMP
	netns   rawNetns
}

type rawLibvirt struct {
	uri   got[string]
	trust got[bool]
}

type rawQMP struct{ sockets, events got[[]got[string]] }

var libvirtKeys = object[rawLibvirt]{what: "libvirt", rows: []row[rawLibvirt]{
	key("uri", func(l *rawLibvirt) *got[string] { return &l.uri }, codec[got[string]](libvirtURI)),
	key("trust_labels", func(l *rawLibvirt) *got[bool] { return &l.trust }, codec[got[bool]](yesOrNo)),
}}

var qmpKeys = object[rawQMP]{what: "qmp", rows: []row[rawQMP]{
	key("sockets", func(q *rawQMP) *got[[]got[string]] { return &q.sockets }, codec[got[[]got[string]]](patterns)),
	key("events", func(q *rawQMP) *got[[]got[string]] { return &q.events }, codec[got[[]got[string]]](patterns)),
}}

var patterns = listOf[got[string]]{item: socket, what: "a list of socket patterns", empty: true}

var hypervisorsKeys = object[rawHypervisors]{what: "hypervisors", rows: []row[rawHypervisors]{
	key("libvirt", func(h *rawHypervisors) *rawLibvirt { return &h.libvirt }, codec[rawLibvirt](libvirtKeys)),
	key("qmp", func(h *rawHypervisors) *rawQMP { return &h.qmp }, codec[rawQMP](qmpKeys)),
	key("netns", func(h *rawHypervisors) *rawNetns { return &h.netns }, codec[rawNetns](netnsKeys)),
}}

// DefaultSockets is where QMP sockets are looked for unless the configuration
// says otherwise: our own folder, and Proxmox VE's (PVE/QemuServer/Helpers.pm,
// qmp_socket).
func DefaultSockets() []string {
	return []string{"/run/vmnetd/qmp/{vm}.sock", "/run/qemu-server/{vm}.qmp"}
}

func (b *builder) addHypervisors(docs []*document) {
	b.addLibvirt(docs)
	given, seen := false, declared{}
	for _, d := range docs {
		s := d.hypervisors.qmp.sockets
		given = given || s.Given
		for _, pattern := range s.V {
			if pattern.Given && seen.add(b.problems, "socket pattern", pattern.V, pattern.At) {
				b.cfg.Ways.Sockets = append(b.cfg.Ways.Sockets, pattern.V)
			}
		}
	}
	if !given {
		b.cfg.Ways.Sockets = DefaultSockets()
	}
	b.addEvents(docs)
	b.addNetns(docs)
	b.refuseUntold(docs)
}

// addLibvirt takes each key from the one file that may give it.
func (b *builder) addLibvirt(docs []*document) {
	b.cfg.Ways.Libvirt = defaultURI
	seen := declared{}
	once := func(name string, at place) bool {
		if first, there := seen[name]; there {
			b.add(at, "hypervisors.libvirt.%s is given twice, first at %s", name, first).do("leave it in one file only")
			return false
		}
		seen[name] = at
		return true
	}
	for _, d := range docs {
		l := d.hypervisors.libvirt
		if l.uri.Given && once("uri", l.uri.Key) {
			b.cfg.Ways.Libvirt = l.uri.V
		}
		if l.trust.Given && once("trust_labels", l.trust.Key) {
			b.cfg.Trusted = l.trust.V
		}
	}
	if b.cfg.Ways.Libvirt != noLibvirt {
		return
	}
	b.cfg.Ways.Libvirt = ""
	if b.cfg.Trusted {
		b.warn(seen["trust_labels"], "trust_labels has no effect: uri is none, and only libvirt has labels of VMs")
	}
}

func (b *builder) addEvents(docs []*document) {
	seen := declared{}
	for _, d := range docs {
		for _, pattern := range d.hypervisors.qmp.events.V {
			if !pattern.Given || !seen.add(b.problems, "events pattern", pattern.V, pattern.At) {
				continue
			}
			if slices.Contains(b.cfg.Ways.Sockets, pattern.V) {
				b.add(pattern.At, "that is a pattern of sockets too: QEMU serves one client at a time on a socket, and events keep theirs").
					do("give each VM a second one: -qmp unix:/run/vmnetd/events/NAME.sock,server=on,wait=off")
				continue
			}
			b.cfg.Ways.Events = append(b.cfg.Ways.Events, pattern.V)
		}
	}
}

// refuseUntold refuses mac: {change: allow} where nobody would tell that a guest
// has changed its MAC, so that it would not be followed.
func (b *builder) refuseUntold(docs []*document) {
	if b.cfg.Ways.Libvirt != "" {
		return
	}
	var changes []got[string]
	for _, d := range docs {
		if d.hypervisors.qmp.events.Given || len(d.hypervisors.qmp.events.V) > 0 {
			return
		}
		changes = append(changes, d.defaults.mac.change)
		for _, n := range d.networks.V {
			changes = append(changes, n.mac.change)
		}
		for _, r := range d.rules.V {
			changes = append(changes, r.mac.change)
		}
	}
	for _, c := range changes {
		if c.Given && c.V == policy.ChangeAllow {
			b.add(c.At, "change: allow needs libvirt or a second QMP socket of each VM, which tell that a guest has changed its MAC, and there is neither").
				do("add  hypervisors: {qmp: {events: [\"/run/vmnetd/events/{vm}.sock\"]}}, or leave change out")
		}
	}
}
