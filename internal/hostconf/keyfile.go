package hostconf

import "strings"

// keyfiles reads NetworkManager's connections (nm-settings-keyfile(5)): one
// Source for each address family of a connection.
func keyfiles(root string) []entry {
	var entries []entry
	for _, folder := range []string{"etc", "run", "usr/lib"} {
		for _, f := range glob(root, folder+"/NetworkManager/system-connections/*.nmconnection") {
			entries = append(entries, connection(f)...)
		}
	}
	return entries
}

func connection(f file) []entry {
	var p profile
	families := map[string]*Source{
		"ipv4": {Tool: NetworkManager, File: f.path, Line: 1, family: "ipv4"},
		"ipv6": {Tool: NetworkManager, File: f.path, Line: 1, family: "ipv6"},
	}
	for _, set := range settings(f.text) {
		p.take(set)
		if s := families[set.section]; s != nil {
			s.keyfile(set)
		}
	}
	var entries []entry
	for _, family := range []string{"ipv4", "ipv6"} {
		s := families[family]
		s.Name = p.id
		if family == "ipv4" || len(s.Addresses) > 0 { // ipv4 also tells that the device is held at all
			entries = append(entries, entry{Source: *s, matches: p.matches})
		}
	}
	return entries
}

// profile is for which device a connection is.
type profile struct{ id, kind, device, mac string }

func (p *profile) take(set setting) {
	switch set.section + "." + set.key {
	case "connection.id":
		p.id = set.value
	case "connection.type":
		p.kind = set.value
	case "connection.interface-name":
		p.device = set.value
	case "ethernet.mac-address", "802-3-ethernet.mac-address":
		p.mac = set.value
	}
}

func (p *profile) matches(device, mac string) bool {
	switch {
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
		s.Dynamic = set.value == "auto" || set.value == "dhcp"
	case set.key == "gateway":
		s.Gateway = set.value
	case strings.HasPrefix(set.key, "address") && !strings.HasPrefix(set.key, "address-"):
		for i, part := range strings.FieldsFunc(set.value, func(r rune) bool { return r == ',' || r == ';' }) {
			if i > 0 && !strings.Contains(part, "/") {
				s.Gateway = part
				continue
			}
			s.Addresses = append(s.Addresses, part)
		}
		if s.Line == 1 {
			s.Line = set.line
		}
	}
}
