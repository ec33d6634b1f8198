package uplink

import (
	"encoding/json"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// entry is an uplink as it is written under uplinks: in vmnetd.yaml, on one
// line: flow mappings are the part of YAML that needs no indentation.
func entry(s Spec) string {
	pairs := []string{"name: " + scalar(s.Name)}
	if s.MTU != 0 {
		pairs = append(pairs, "mtu: "+strconv.Itoa(s.MTU))
	}
	if s.Probe.IsValid() {
		pairs = append(pairs, "probe: "+scalar(s.Probe.String()))
	}
	switch {
	case s.Bond != nil:
		pairs = append(pairs, "bond: "+bondEntry(s))
	case s.Team != nil:
		pairs = append(pairs, "team: "+teamEntry(s))
	}
	return "- {" + strings.Join(pairs, ", ") + "}"
}

func bondEntry(s Spec) string {
	pairs := []string{"mode: " + scalar(s.Bond.Mode)}
	for _, name := range slices.Sorted(maps.Keys(s.Bond.Options)) {
		pairs = append(pairs, name+": "+scalar(s.Bond.Options[name]))
	}
	var ports []string
	for _, p := range s.Bond.Ports {
		if len(p.Options) == 0 {
			ports = append(ports, scalar(p.Name))
			continue
		}
		port := []string{"name: " + scalar(p.Name)}
		for _, name := range slices.Sorted(maps.Keys(p.Options)) {
			port = append(port, name+": "+scalar(p.Options[name]))
		}
		ports = append(ports, "{"+strings.Join(port, ", ")+"}")
	}
	return "{" + strings.Join(append(pairs, "ports: ["+strings.Join(ports, ", ")+"]"), ", ") + "}"
}

// teamEntry: the configuration's JSON has the keys of teamd.conf(5), as the
// YAML does.
func teamEntry(s Spec) string {
	b, err := json.Marshal(s.Team)
	if err != nil {
		return "{}" // of numbers and strings: it never fails
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return "{}"
	}
	return flow(v)
}

// firstKeys are written before all others, so that an entry reads as people
// write it; ports come last.
var firstKeys = []string{"name", "runner"}

func flow(v any) string {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.SortedFunc(maps.Keys(v), func(a, b string) int {
			if d := rank(a) - rank(b); d != 0 {
				return d
			}
			return strings.Compare(a, b)
		})
		var pairs []string
		for _, k := range keys {
			pairs = append(pairs, k+": "+flow(v[k]))
		}
		return "{" + strings.Join(pairs, ", ") + "}"
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, flow(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case string:
		return scalar(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}

func rank(key string) int {
	switch {
	case slices.Contains(firstKeys, key):
		return slices.Index(firstKeys, key)
	case key == "ports":
		return len(firstKeys) + 1
	}
	return len(firstKeys)
}

// scalar quotes what YAML would not take for this very text: MACs and IPv6
// addresses (":"), "on" and "off" are booleans to some readers, and lists.
func scalar(s string) string {
	_, isMAC := net.ParseMAC(s)
	if s == "" || isMAC == nil || strings.ContainsAny(s, ":,{}[]&*#?|<>=!%@\\\"' ") || strings.HasPrefix(s, "-") {
		return strconv.Quote(s)
	}
	return s
}
