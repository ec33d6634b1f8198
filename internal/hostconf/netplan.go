package hostconf

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
)

// definition is what of a netplan definition gives addresses
// (netplan.readthedocs.io, YAML configuration).
type definition struct {
	Match struct {
		Name string `yaml:"name"`
		MAC  string `yaml:"macaddress"`
	} `yaml:"match"`
	SetName   string `yaml:"set-name"`
	DHCP4     bool   `yaml:"dhcp4"`
	DHCP6     bool   `yaml:"dhcp6"`
	AcceptRA  *bool  `yaml:"accept-ra"`
	Addresses []any  `yaml:"addresses"` // a text, or a map of one with options
	Gateway4  string `yaml:"gateway4"`
	Gateway6  string `yaml:"gateway6"`
	Routes    []struct {
		To  string `yaml:"to"`
		Via string `yaml:"via"`
	} `yaml:"routes"`
}

// kinds of netplan in which devices are defined.
var kinds = []string{"ethernets", "bonds", "bridges", "vlans", "tunnels", "dummy-devices", "virtual-ethernets"}

func netplans(root string) []entry {
	var entries []entry
	for _, folder := range []string{"lib", "etc", "run"} {
		for _, f := range glob(root, folder+"/netplan/*.yaml") {
			entries = append(entries, netplan(f)...)
		}
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
	tool := Netplan
	if strings.Contains(filepath.Base(f.path), "cloud-init") {
		tool = CloudInit
	}
	var entries []entry
	for _, kind := range kinds {
		devices, _ := doc.Network[kind].(map[string]any)
		for id, raw := range devices {
			d, ok := defined(raw)
			if !ok {
				continue
			}
			s := Source{Tool: tool, File: f.path, Line: lineOf(f.text, id), Name: id, Dynamic: d.DHCP4 || d.DHCP6, family: "inet"}
			s.netplan(d)
			entries = append(entries, entry{Source: s, matches: func(device, mac string) bool { return d.is(id, device, mac) }})
		}
	}
	return entries
}

func defined(raw any) (d definition, ok bool) {
	text, err := yaml.Marshal(raw)
	if err != nil {
		return d, false
	}
	return d, yaml.Unmarshal(text, &d) == nil
}

func (d definition) is(id, device, mac string) bool {
	switch {
	case d.SetName != "" && d.SetName == device:
		return true
	case d.Match.MAC != "":
		return same(d.Match.MAC, mac)
	case d.Match.Name != "":
		return named(d.Match.Name, device)
	}
	return id == device
}

func (s *Source) netplan(d definition) {
	for _, a := range d.Addresses {
		switch a := a.(type) {
		case string:
			s.Addresses = append(s.Addresses, a)
		case map[string]any:
			for address := range a {
				s.Addresses = append(s.Addresses, address)
			}
		}
	}
	s.Gateway = d.Gateway4
	if s.Gateway == "" {
		s.Gateway = d.Gateway6
	}
	for _, r := range d.Routes {
		if s.Gateway == "" && (r.To == "default" || r.To == "0.0.0.0/0" || r.To == "::/0") {
			s.Gateway = r.Via
		}
	}
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
