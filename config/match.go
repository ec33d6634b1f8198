package config

import (
	"net"

	"github.com/vmnetd/vmnetd/uplink"
)

// rawFound is what stands under nic and external: a device that is there.
type rawFound struct {
	spot
	match rawMatch
}

type rawMatch struct {
	spot
	name got[string]
	mac  got[net.HardwareAddr]
	path got[string]
}

var matchKeys = object[rawMatch]{what: "match", rows: []row[rawMatch]{
	key("name", func(m *rawMatch) *got[string] { return &m.name }, codec[got[string]](deviceName)),
	key("mac", func(m *rawMatch) *got[net.HardwareAddr] { return &m.mac }, codec[got[net.HardwareAddr]](macAddress)),
	key("path", func(m *rawMatch) *got[string] { return &m.path }, codec[got[string]](devicePath)),
}}

func foundKeys(what string) object[rawFound] {
	return object[rawFound]{what: what, rows: []row[rawFound]{
		key("match", func(f *rawFound) *rawMatch { return &f.match }, codec[rawMatch](matchKeys)),
	}}
}

// match fills in how the device is found, and names the device for messages.
func (b *builder) match(u *rawUplink, m *rawMatch, spec *uplink.Spec) string {
	switch {
	case m.there() && m.written() == 0 && !m.mistakes:
		b.add(m.at, "match is empty").do("give one of name, mac, path, or leave match out: then the uplink's name is the device's")
	case m.written() > 1:
		b.add(m.at, "match takes one of name, mac, path, not %d", m.written())
	}
	spec.MAC, spec.Path, spec.Device = m.mac.V, m.path.V, m.name.V
	switch {
	case m.mac.Given:
		return "MAC " + m.mac.V.String()
	case m.path.Given:
		return m.path.V
	case m.name.Given:
		return m.name.V
	case m.mistakes: // which device is meant is not known
		return "the one of " + u.name.V
	}
	spec.Device = u.name.V
	return u.name.V
}

// written is how many of its keys are there, right or wrong.
func (m *rawMatch) written() int {
	n := 0
	for _, at := range []place{m.name.At, m.mac.At, m.path.At} {
		if at.file != nil {
			n++
		}
	}
	return n
}
