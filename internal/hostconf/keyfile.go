package hostconf

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// keyfiles reads NetworkManager's connections (nm-settings-keyfile(5)). Those
// that netplan wrote have their source in netplan's own file. In /etc the names
// of files need no ending.
func keyfiles(r *reader, left devices) []entry {
	files := r.layered("*", "etc/NetworkManager/system-connections")
	files = slices.DeleteFunc(files, func(f file) bool { return strings.HasSuffix(f.path, "~") })
	files = append(files, r.layered("*.nmconnection", "run/NetworkManager/system-connections", "usr/lib/NetworkManager/system-connections")...)
	var entries []entry
	seen := map[string]bool{}
	for _, f := range files {
		name := filepath.Base(f.path)
		if strings.HasPrefix(name, "netplan-") || seen[name] {
			continue
		}
		seen[name] = true
		e := connection(f)
		matches := e.matches
		e.matches = func(d Device) bool { return matches(d) && !left.take(d) }
		entries = append(entries, e)
	}
	return entries
}

func connection(f file) entry {
	var p profile
	s := Source{Tool: NetworkManager, File: f.path, Line: 1, syntax: NetworkManager, holder: NetworkManager}
	for _, set := range settings(f) {
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

func (p *profile) matches(d Device) bool {
	switch {
	case p.asleep:
		return false
	case p.device != "":
		return p.device == d.Name
	case p.mac != "":
		return same(p.mac, d.MAC)
	}
	return d.isNIC() && (p.kind == "ethernet" || p.kind == "802-3-ethernet") // any NIC
}

// numbered is what an [ipv4] or [ipv6] section has several of: address1=,
// route2=; not route1_options= nor address-data=.
var numbered = regexp.MustCompile(`^(address|route)(es|s)?[0-9]*$`)

// keyfile takes address1=192.0.2.17/24,192.0.2.1, route1=0.0.0.0/0,192.0.2.1 and
// the like.
func (s *Source) keyfile(set setting) {
	kind := numbered.FindStringSubmatch(set.key)
	parts := strings.FieldsFunc(strings.ReplaceAll(set.value, " ", ""), func(r rune) bool { return r == ',' || r == ';' })
	switch {
	case set.key == "method":
		s.Dynamic = s.Dynamic || set.value == "auto" || set.value == "dhcp"
	case set.key == "gateway":
		s.gateway(set.value)
	case kind == nil || len(parts) == 0:
	case kind[1] == "address":
		s.keyfileAddress(parts, set.line)
	case len(parts) > 1 && everywhere(parts[0]):
		s.gateway(parts[1])
	}
}

func (s *Source) keyfileAddress(parts []string, line int) {
	if s.Line == 1 {
		s.Line = line
	}
	for i, part := range parts {
		_, err := netip.ParseAddr(part)
		switch {
		case i == 0 || strings.Contains(part, "/"):
			s.address(part)
		case err == nil:
			s.gateway(part)
		}
	}
}
