package hostconf

import (
	"path/filepath"
	"slices"
	"strings"
)

// networkdFolders in the order of their precedence (systemd.network(5)): of
// files of one name the first counts.
var networkdFolders = []string{"etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network"}

// networkd reads .network files; of those that match a device the first by name
// counts.
func networkd(root string) []entry {
	byName := map[string]file{}
	var names []string
	for _, folder := range networkdFolders {
		for _, f := range glob(root, folder+"/*.network") {
			name := filepath.Base(f.path)
			if _, shadowed := byName[name]; !shadowed {
				byName[name] = f
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	var entries []entry
	for _, name := range names {
		entries = append(entries, network(byName[name]))
	}
	return entries
}

func network(f file) entry {
	s := Source{Tool: Networkd, File: f.path, Line: 1, Name: filepath.Base(f.path), family: "inet"}
	var match []setting
	for _, set := range settings(f.text) {
		switch {
		case set.section == "Match":
			match = append(match, set)
		case set.key == "Address":
			s.Addresses = append(s.Addresses, set.value)
			if len(s.Addresses) == 1 {
				s.Line = set.line
			}
		case set.key == "Gateway" && s.Gateway == "":
			s.Gateway = set.value
		case set.section == "Network" && set.key == "DHCP":
			s.Dynamic = set.value != "no" && set.value != "none" && set.value != "false"
		}
	}
	return entry{Source: s, only: true, matches: func(device, mac string) bool { return len(match) > 0 && all(match, device, mac) }}
}

// all says that every condition holds; one that needs the device itself to be
// judged (Driver=, Path=) does not.
func all(match []setting, device, mac string) bool {
	return !slices.ContainsFunc(match, func(m setting) bool {
		switch m.key {
		case "Name", "OriginalName":
			return !named(m.value, device)
		case "MACAddress", "PermanentMACAddress":
			return !slices.ContainsFunc(strings.Fields(m.value), func(one string) bool { return same(one, mac) })
		case "Type":
			return !slices.Contains(strings.Fields(m.value), "ether")
		}
		return true
	})
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
