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
	var id, kind, device, mac string
	families := map[string]*Source{
		"ipv4": {Tool: NetworkManager, File: f.path, Line: 1, family: "ipv4"},
		"ipv6": {Tool: NetworkManager, File: f.path, Line: 1, family: "ipv6"},
	}
	for _, set := range settings(f.text) {
		switch set.section + "." + set.key {
		case "connection.id":
			id = set.value
		case "connection.type":
			kind = set.value
		case "connection.interface-name":
			device = set.value
		case "ethernet.mac-address", "802-3-ethernet.mac-address":
			mac = set.value
		}
		if s := families[set.section]; s != nil {
			s.keyfile(set)
		}
	}
	matches := func(d, m string) bool {
		switch {
		case device != "":
			return device == d
		case mac != "":
			return same(mac, m)
		}
		return m != "" && (kind == "ethernet" || kind == "802-3-ethernet") // any NIC
	}
	var entries []entry
	for _, family := range []string{"ipv4", "ipv6"} {
		s := families[family]
		s.Name = id
		if family == "ipv4" || len(s.Addresses) > 0 { // ipv4 also tells that the device is held at all
			entries = append(entries, entry{Source: *s, matches: matches})
		}
	}
	return entries
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
