package hostconf

import (
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// interfaces reads interfaces(5), with what it includes.
func interfaces(root string) []entry {
	p := ifupdown{root: root, seen: map[string]bool{}}
	p.include("etc/network/interfaces")
	return p.entries
}

type ifupdown struct {
	root    string
	seen    map[string]bool // a file that includes itself is read once
	entries []entry
}

func (p *ifupdown) include(pattern string) {
	for _, f := range glob(p.root, pattern) {
		if !p.seen[f.path] {
			p.seen[f.path] = true
			p.read(f)
		}
	}
}

// inDirectory is the names that source-directory takes.
var inDirectory = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

func (p *ifupdown) read(f file) {
	var current *stanza
	end := func() {
		if current != nil {
			name, _, _ := strings.Cut(current.Name, ":") // eno1:0 is another address of eno1
			p.entries = append(p.entries, entry{Source: current.end(), cloud: f.clouds(), matches: func(device, _ string) bool { return device == name }})
		}
		current = nil
	}
	for number, words := range statements(f.text) {
		switch words[0] {
		case "iface":
			end()
			current = newStanza(f.path, number, words)
		case "auto", "mapping", "rename", "no-auto-down", "no-scripts":
			end()
		case "source":
			end()
			p.includeAll(f, words[1:])
		case "source-directory":
			end()
			p.includeFolders(f, words[1:])
		default:
			if strings.HasPrefix(words[0], "allow-") {
				end()
			}
			if current != nil && len(words) > 1 {
				current.option(words[0], words[1])
			}
		}
	}
	end()
}

func (p *ifupdown) includeAll(f file, patterns []string) {
	for _, pattern := range patterns {
		p.include(beside(f, pattern))
	}
}

func (p *ifupdown) includeFolders(f file, folders []string) {
	for _, folder := range folders {
		for _, in := range glob(p.root, filepath.Join(beside(f, folder), "*")) {
			if inDirectory.MatchString(filepath.Base(in.path)) {
				p.include(in.path)
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
}

// newStanza is a stanza's head. One that only inherits says nothing of where
// addresses come from.
func newStanza(path string, line int, words []string) *stanza {
	if len(words) < 2 {
		return nil
	}
	s := &stanza{Source: Source{Tool: Ifupdown, File: path, Line: line, Name: words[1], syntax: Ifupdown, family: "inet"}}
	if len(words) >= 4 {
		s.family = words[2]
		s.Dynamic = words[3] == "dhcp" || words[3] == "auto"
	}
	return s
}

func (s *stanza) option(key, value string) {
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
