package config

import "slices"

type rawHypervisors struct{ qmp rawQMP }

type rawQMP struct{ sockets got[[]got[string]] }

var qmpKeys = object[rawQMP]{what: "qmp", rows: []row[rawQMP]{
	key("sockets", func(q *rawQMP) *got[[]got[string]] { return &q.sockets }, codec[got[[]got[string]]](listOf[got[string]]{
		item: socket, what: "a list of socket patterns", empty: true,
	})),
}}

var hypervisorsKeys = object[rawHypervisors]{what: "hypervisors", rows: slices.Concat([]row[rawHypervisors]{
	key("qmp", func(h *rawHypervisors) *rawQMP { return &h.qmp }, codec[rawQMP](qmpKeys)),
}, later[rawHypervisors]("libvirt"))}

// DefaultSockets is where QMP sockets are looked for unless the configuration
// says otherwise: our own folder, and Proxmox VE's (PVE/QemuServer/Helpers.pm,
// qmp_socket).
func DefaultSockets() []string {
	return []string{"/run/vmnetd/qmp/{vm}.sock", "/run/qemu-server/{vm}.qmp"}
}

func (b *builder) addHypervisors(docs []*document) {
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
}
