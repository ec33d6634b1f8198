package hostconf

import (
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// interfaces reads interfaces(5), with what it includes.
func interfaces(r *reader) []entry {
	p := ifupdown{r: r, seen: map[string]bool{}}
	p.include("/etc/network/interfaces")
	return p.entries()
}

type ifupdown struct {
	r       *reader
	seen    map[string]bool // a file that includes itself is read once
	stanzas []*stanza
	picked  []selection
}

func (p *ifupdown) include(pattern string) {
	for _, path := range p.r.paths(pattern) {
		if p.seen[path] {
			continue
		}
		p.seen[path] = true
		if f, ok := p.r.read(path); ok {
			p.read(f)
		}
	}
}

func (p *ifupdown) entries() []entry {
	var entries []entry
	for _, s := range p.stanzas {
		name, _, _ := strings.Cut(s.Name, ":") // eno1:0 is another address of eno1
		entries = append(entries, entry{
			Source: s.end(), cloud: s.cloud,
			matches: func(d Device) bool { return d.Name == name || p.atStart(s.Name, d) },
			early:   func(d Device) bool { return !s.makes && p.atStart(s.Name, d) },
			late:    func(d Device) bool { return s.makes || s.Name == d.Name && p.byUdev(d) },
		})
	}
	return entries
}

// inDirectory is the names that source-directory takes.
var inDirectory = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

func (p *ifupdown) read(f file) {
	var current *stanza
	for number, words := range statements(f.text) {
		switch key := words[0]; {
		case key == "iface":
			current = newStanza(f, number, words)
			if current != nil {
				p.stanzas = append(p.stanzas, current)
			}
		case key == "auto" || strings.HasPrefix(key, "allow-"):
			current = nil
			p.pick(key, words[1:])
		case slices.Contains([]string{"mapping", "rename", "no-auto-down", "no-scripts"}, key):
			current = nil
		case key == "source":
			current = nil
			p.includeAll(f, words[1:])
		case key == "source-directory":
			current = nil
			p.includeFolders(f, words[1:])
		case current != nil && len(words) > 1:
			current.option(key, words[1])
		}
	}
}

func (p *ifupdown) includeAll(f file, patterns []string) {
	for _, pattern := range patterns {
		p.include(beside(f, pattern))
	}
}

func (p *ifupdown) includeFolders(f file, folders []string) {
	for _, folder := range folders {
		for _, path := range p.r.paths(filepath.Join(beside(f, folder), "*")) {
			if inDirectory.MatchString(filepath.Base(path)) {
				p.include(literal(path))
			}
		}
	}
}

// beside is a path as it is meant in a file.
func beside(f file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(f.path), path)
}

// statements is the lines that say something, by the number of their first
// line; a backslash at the end continues a line.
func statements(text string) func(yield func(int, []string) bool) {
	return func(yield func(int, []string) bool) {
		lines := strings.Split(text, "\n")
		for i := 0; i < len(lines); i++ {
			number, line := i+1, lines[i]
			for strings.HasSuffix(line, "\\") && i+1 < len(lines) {
				i++
				line = strings.TrimSuffix(line, "\\") + " " + lines[i]
			}
			words := strings.Fields(line)
			if len(words) == 0 || strings.HasPrefix(words[0], "#") {
				continue
			}
			if !yield(number, words) {
				return
			}
		}
	}
}

// stanza is one of an interface: iface NAME inet static, and its options.
type stanza struct {
	Source
	netmask string
	makes   bool // ifupdown makes the device by itself
	cloud   bool
}

// newStanza is a stanza's head. One that only inherits says nothing of where
// addresses come from.
func newStanza(f file, line int, words []string) *stanza {
	if len(words) < 2 {
		return nil
	}
	s := &stanza{Source: Source{Tool: Ifupdown, File: f.path, Line: line, Name: words[1], syntax: Ifupdown, family: "inet"}, cloud: f.clouds()}
	if len(words) >= 4 {
		s.family = words[2]
		s.Dynamic = words[3] == "dhcp" || words[3] == "auto"
	}
	return s
}

// maker is the options by which ifenslave, bridge-utils and vlan make a device
// before it is brought up, and that by which the operator does.
var maker = regexp.MustCompile(`^(bond|bridge|vlan)[-_]|^(slaves|pre-up)$`)

func (s *stanza) option(key, value string) {
	s.makes = s.makes || maker.MatchString(key)
	switch key {
	case "address":
		s.address(value)
	case "netmask":
		s.netmask = value
	case "gateway":
		s.gateway(value)
	}
}

// end is the whole stanza; a netmask belongs to an address that has no prefix
// length.
func (s *stanza) end() Source {
	bits := s.netmask
	if mask := net.ParseIP(s.netmask).To4(); mask != nil {
		ones, _ := net.IPMask(mask).Size()
		bits = strconv.Itoa(ones)
	}
	for i, a := range s.Addresses {
		if bits != "" && !strings.Contains(a, "/") {
			s.Addresses[i] = a + "/" + bits
		}
	}
	return s.Source
}
