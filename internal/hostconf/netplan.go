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

// netplans reads netplan's YAML. All files count, by name whatever their folder,
// and of those of one name that in /run, then that in /etc; a later one adds to
// what is defined before it (netplan-generate(8)). Each file's part of a
// definition is a place of its own.
func netplans(r *reader, left devices, networks []entry) []entry {
	var all map[string]any
	var parts []netplanFile
	for _, f := range r.layered("*.yaml", "run/netplan", "etc/netplan", "lib/netplan", "usr/lib/netplan") {
		part, err := newNetplanFile(f)
		if err != nil {
			r.note("%s is not read: it is no YAML", f.path)
			continue
		}
		parts = append(parts, part)
		all, _ = merged(all, part.network).(map[string]any)
	}
	var entries []entry
	for _, part := range parts {
		for _, e := range part.entries(all) {
			entries = append(entries, overruled(e, left, networks))
		}
	}
	return entries
}

// netplanFile is one file of netplan's.
type netplanFile struct {
	file
	network map[string]any
}

func newNetplanFile(f file) (netplanFile, error) {
	var doc struct {
		Network map[string]any `yaml:"network"`
	}
	err := yaml.Unmarshal([]byte(f.text), &doc)
	return netplanFile{f, doc.Network}, err
}

// merged is b added to a: lists are joined, of single values the later one
// counts.
func merged(a, b any) any {
	switch later := b.(type) {
	case nil:
		return a
	case []any:
		return slices.Concat(list(a), later)
	case map[string]any:
		sum, _ := a.(map[string]any)
		sum = maps.Clone(sum)
		if sum == nil {
			sum = map[string]any{}
		}
		for key, v := range later {
			sum[key] = merged(sum[key], v)
		}
		return sum
	}
	return b
}

// entries is a file's definitions; all is what all files say.
func (f netplanFile) entries(all map[string]any) []entry {
	var entries []entry
	for _, kind := range kinds {
		defined, _ := f.network[kind].(map[string]any)
		for _, id := range slices.Sorted(maps.Keys(defined)) {
			part, ok := defined[id].(map[string]any)
			if !ok {
				continue
			}
			family, _ := all[kind].(map[string]any)
			whole, _ := family[id].(map[string]any)
			s := Source{Tool: Netplan, File: f.path, Line: lineOf(f.text, id), Name: id, syntax: Netplan}
			s.netplan(part, whole)
			s.rendered(text(all["renderer"]), text(family["renderer"]), text(whole["renderer"]))
			entries = append(entries, entry{Source: s, cloud: f.clouds(), matches: func(d Device) bool { return isFor(whole, id, d) }})
		}
	}
	return entries
}

// rendered notes which tool netplan has do it: the narrowest place that says so
// counts, and networkd where none does.
func (s *Source) rendered(everywhere, family, own string) {
	by := func(places ...string) string {
		for _, name := range places {
			if name != "" {
				return name
			}
		}
		return "networkd"
	}
	now := by(own, family, everywhere)
	s.holder = map[string]string{"networkd": Networkd, NetworkManager: NetworkManager}[now]
	if s.holder == NetworkManager || now != by(everywhere) {
		s.renderer = now // definitions are of another family there
	}
}

// overruled is a definition that counts as long as its tool is not told to let
// go of the device: a .network file before netplan's, NetworkManager's list.
func overruled(e entry, left devices, networks []entry) entry {
	matches := e.matches
	e.matches = func(d Device) bool {
		switch {
		case !matches(d):
			return false
		case e.holder == NetworkManager:
			return !left.take(d)
		case e.holder == Networkd:
			return !slices.ContainsFunc(networks, func(n entry) bool { return n.Name < "10-netplan-" && n.matches(d) })
		}
		return true
	}
	return e
}

// isFor says that a definition is for a device (netplan's YAML configuration,
// match and set-name).
func isFor(def map[string]any, id string, d Device) bool {
	if name := text(def["set-name"]); name != "" && name == d.Name {
		return true
	}
	match, ok := def["match"].(map[string]any)
	switch {
	case !ok:
		return id == d.Name
	case len(match) == 0:
		return d.isNIC() // every NIC
	case match["macaddress"] != nil && !same(text(match["macaddress"]), d.MAC):
		return false
	case match["name"] != nil:
		return def["set-name"] == nil && slices.ContainsFunc(texts(match["name"]), func(p string) bool { return shell(p, d.Name) }) // a name that it has no more
	}
	return match["macaddress"] != nil
}

// netplan takes what one file's part of a definition gives; what is on or off
// is as all files together say.
func (s *Source) netplan(part, whole map[string]any) {
	for _, key := range []string{"dhcp4", "dhcp6", "accept-ra"} {
		s.Dynamic = s.Dynamic || part[key] != nil && truth(text(whole[key]))
	}
	for _, a := range list(part["addresses"]) {
		if options, ok := a.(map[string]any); ok {
			for _, address := range slices.Sorted(maps.Keys(options)) {
				s.address(address)
			}
			continue
		}
		s.address(text(a))
	}
	if s.gatewaysOf(part); len(s.Addresses) > 0 && len(s.gateways) == 0 {
		s.gatewaysOf(whole) // another file has them
	}
}

func (s *Source) gatewaysOf(def map[string]any) {
	s.gateway(text(def["gateway4"]))
	s.gateway(text(def["gateway6"]))
	for _, r := range list(def["routes"]) {
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

// texts is a scalar or a list of them.
func texts(v any) []string {
	if _, isList := v.([]any); !isList {
		return []string{text(v)}
	}
	var all []string
	for _, one := range list(v) {
		all = append(all, text(one))
	}
	return all
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
