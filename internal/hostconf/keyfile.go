package hostconf

import (
	"path/filepath"
	"strings"
)

// keyfiles reads NetworkManager's connections (nm-settings-keyfile(5)). Those
// that netplan wrote have their source in netplan's own file.
func keyfiles(root string) []entry {
	left := unmanaged(root)
	var entries []entry
	for _, f := range layered(root, "*.nmconnection", "etc/NetworkManager/system-connections", "run/NetworkManager/system-connections", "usr/lib/NetworkManager/system-connections") {
		if strings.HasPrefix(filepath.Base(f.path), "netplan-") {
			continue
		}
		e := connection(f)
		matches := e.matches
		e.matches = func(device, mac string) bool { return matches(device, mac) && !left.take(device, mac) }
		entries = append(entries, e)
	}
	return entries
}

func connection(f file) entry {
	var p profile
	s := Source{Tool: NetworkManager, File: f.path, Line: 1, syntax: NetworkManager, holder: NetworkManager}
	for _, set := range settings(f.text) {
		p.take(set)
		if set.section == "ipv4" || set.section == "ipv6" {
			s.keyfile(set)
		}
	}
	s.Name = p.id
	return entry{Source: s, matches: p.matches, cloud: f.clouds()}
}

// profile is for which device a connection is.
type profile struct {
	id, kind, device, mac string
	asleep                bool // it is for somebody who asks for it, not for boot
}

func (p *profile) take(set setting) {
	switch set.section + "." + set.key {
	case "connection.id":
		p.id = set.value
	case "connection.type":
		p.kind = set.value
	case "connection.interface-name":
		p.device = set.value
	case "connection.autoconnect":
		p.asleep = !truth(set.value)
	case "ethernet.mac-address", "802-3-ethernet.mac-address":
		p.mac = set.value
	}
}

func (p *profile) matches(device, mac string) bool {
	switch {
	case p.asleep:
		return false
	case p.device != "":
		return p.device == device
	case p.mac != "":
		return same(p.mac, mac)
	}
	return mac != "" && (p.kind == "ethernet" || p.kind == "802-3-ethernet") // any NIC
}

// keyfile takes address1=192.0.2.17/24,192.0.2.1 and the like.
func (s *Source) keyfile(set setting) {
	switch {
	case set.key == "method":
		s.Dynamic = s.Dynamic || set.value == "auto" || set.value == "dhcp"
	case set.key == "gateway":
		s.gateway(set.value)
	case strings.HasPrefix(set.key, "address") && !strings.HasPrefix(set.key, "address-"):
		for i, part := range strings.FieldsFunc(set.value, func(r rune) bool { return r == ',' || r == ';' }) {
			if part = strings.TrimSpace(part); i > 0 && !strings.Contains(part, "/") {
				s.gateway(part)
				continue
			}
			s.address(part)
		}
		if s.Line == 1 {
			s.Line = set.line
		}
	}
}
