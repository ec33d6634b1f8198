package hostconf

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// kinds of netplan in which devices are defined.
var kinds = []string{"ethernets", "bonds", "bridges", "vlans", "tunnels", "dummy-devices", "virtual-ethernets"}

func netplans(root string) []entry {
	var entries []entry
	for _, f := range layered(root, "*.yaml", "run/netplan", "etc/netplan", "lib/netplan") {
		entries = append(entries, netplan(f)...)
	}
	return entries
}

func netplan(f file) []entry {
	var doc struct {
		Network map[string]any `yaml:"network"`
	}
	if yaml.Unmarshal([]byte(f.text), &doc) != nil {
		return nil
	}
	var entries []entry
	for _, kind := range kinds {
		defined, _ := doc.Network[kind].(map[string]any)
		for _, id := range slices.Sorted(maps.Keys(defined)) {
			d, ok := defined[id].(map[string]any)
			if !ok {
				continue
			}
			s := Source{Tool: Netplan, File: f.path, Line: lineOf(f.text, id), Name: id, syntax: Netplan}
			if text(d["renderer"]) == NetworkManager || d["renderer"] == nil && text(doc.Network["renderer"]) == NetworkManager {
				s.holder = NetworkManager // it takes a NIC without a definition for one of its own
			}
			s.netplan(d)
			entries = append(entries, entry{Source: s, cloud: f.clouds(), matches: func(device, mac string) bool { return isFor(d, id, device, mac) }})
		}
	}
	return entries
}

// isFor says that a definition is for a device (netplan's YAML configuration,
// match and set-name).
func isFor(d map[string]any, id, device, mac string) bool {
	if name := text(d["set-name"]); name != "" && name == device {
		return true
	}
	match, ok := d["match"].(map[string]any)
	switch {
	case !ok:
		return id == device
	case len(match) == 0:
		return mac != "" // every NIC
	case match["macaddress"] != nil && !same(text(match["macaddress"]), mac):
		return false
	case match["name"] != nil:
		return d["set-name"] == nil && named(text(match["name"]), device) // a name that it has no more
	}
	return match["macaddress"] != nil
}

// netplan takes what of a definition gives addresses.
func (s *Source) netplan(d map[string]any) {
	for _, key := range []string{"dhcp4", "dhcp6", "accept-ra"} {
		s.Dynamic = s.Dynamic || truth(text(d[key]))
	}
	for _, a := range list(d["addresses"]) {
		if options, ok := a.(map[string]any); ok {
			for _, address := range slices.Sorted(maps.Keys(options)) {
				s.address(address)
			}
			continue
		}
		s.address(text(a))
	}
	s.gateway(text(d["gateway4"]))
	s.gateway(text(d["gateway6"]))
	for _, r := range list(d["routes"]) {
		if route, ok := r.(map[string]any); ok && route["to"] != nil && everywhere(text(route["to"])) {
			s.gateway(text(route["via"]))
		}
	}
}

// text is a scalar as it is written: netplan reads YAML 1.1, in which no and off
// are false, and here they are words.
func text(v any) string {
	switch v.(type) {
	case nil, map[string]any, []any:
		return ""
	}
	return fmt.Sprint(v)
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// lineOf is the line on which a definition begins.
func lineOf(text, id string) int {
	head, err := regexp.Compile(`^\s*["']?` + regexp.QuoteMeta(id) + `["']?\s*:`)
	if err != nil {
		return 1
	}
	for i, line := range strings.Split(text, "\n") {
		if head.MatchString(line) {
			return i + 1
		}
	}
	return 1
}
