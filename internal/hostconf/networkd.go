package hostconf

import (
	"path/filepath"
	"slices"
	"strings"
)

// networkd reads .network files. Those in /etc hide those of the same name in
// /run and so on; of those that match a device the first by name counts
// (systemd.network(5)).
func networkd(root string) []entry {
	var entries []entry
	for _, f := range layered(root, "*.network", "etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network", "lib/systemd/network") {
		entries = append(entries, network(f))
	}
	return entries
}

func network(f file) entry {
	e := entry{
		Source: Source{Tool: Networkd, File: f.path, Line: 1, Name: filepath.Base(f.path), syntax: Networkd, holder: Networkd},
		only:   true, cloud: f.clouds(),
		silent: strings.HasPrefix(f.path, "/run/systemd/network/10-netplan-"), // the source is netplan's own file
	}
	var match, route []setting
	for _, set := range settings(f.text) {
		switch set.section {
		case "Match":
			match = append(match, set)
		case "Route":
			route = append(route, set)
		case "Link":
			e.silent = e.silent || set.key == "Unmanaged" && truth(set.value)
		default:
			e.networkd(set)
		}
	}
	e.defaultRoutes(route)
	e.matches = func(device, mac string) bool { return matchAll(match, device, mac) }
	return e
}

func (s *Source) networkd(set setting) {
	switch set.section + "." + set.key {
	case "Network.Address", "Address.Address":
		if set.value == "" {
			s.Addresses = nil // an empty one takes back those before it
			return
		}
		if len(s.Addresses) == 0 {
			s.Line = set.line
		}
		s.address(set.value)
	case "Network.Gateway":
		s.gateway(set.value)
	case "Network.DHCP":
		s.Dynamic = s.Dynamic || slices.Contains([]string{"ipv4", "ipv6"}, set.value) || truth(set.value)
	case "Network.IPv6AcceptRA":
		s.Dynamic = s.Dynamic || truth(set.value)
	}
}

// defaultRoutes takes the gateways of [Route] sections that have no destination
// but all.
func (s *Source) defaultRoutes(route []setting) {
	sections := map[int]map[string]string{}
	var order []int
	for _, set := range route {
		if sections[set.head] == nil {
			sections[set.head] = map[string]string{}
			order = append(order, set.head)
		}
		sections[set.head][set.key] = set.value
	}
	for _, head := range order {
		if everywhere(sections[head]["Destination"]) {
			s.gateway(sections[head]["Gateway"])
		}
	}
}

// everywhere says that a route's destination is the default one.
func everywhere(to string) bool {
	return slices.Contains([]string{"", "default", "0.0.0.0/0", "::/0"}, to)
}

// matchAll says that every condition holds. One that only the device itself
// could answer (Driver=, Path=) is passed over beside others, and does not hold
// alone. networkd ignores a file without any.
func matchAll(match []setting, device, mac string) bool {
	judged := false
	for _, m := range match {
		holds, known := judge(m, device, mac)
		if known && !holds {
			return false
		}
		judged = judged || known
	}
	return judged
}

func judge(m setting, device, mac string) (holds, known bool) {
	switch m.key {
	case "Name", "OriginalName":
		return named(m.value, device), true
	case "MACAddress", "PermanentMACAddress":
		return slices.ContainsFunc(strings.Fields(m.value), func(one string) bool { return same(one, mac) }), true
	case "Type": // "ether" is what has no type of its own, as a bond or bridge has
		return mac != "" && named(m.value, "ether"), true
	case "Kind": // a NIC has none
		return strings.HasPrefix(m.value, "!"), mac != ""
	}
	return false, false
}

// named says whether a list of shell patterns takes a device; "!" at its
// beginning turns it round.
func named(patterns, device string) bool {
	list, not := strings.CutPrefix(patterns, "!")
	found := slices.ContainsFunc(strings.Fields(list), func(pattern string) bool {
		ok, err := filepath.Match(pattern, device)
		return ok && err == nil
	})
	return found != not
}
