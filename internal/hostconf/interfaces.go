package hostconf

import (
	"path/filepath"
	"regexp"
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
	var current *Source
	end := func() {
		if current != nil {
			name := current.Name
			p.entries = append(p.entries, entry{Source: *current, matches: func(device, _ string) bool { return device == name }})
		}
		current = nil
	}
	for number, words := range statements(f.text) {
		switch words[0] {
		case "iface":
			end()
			current = stanza(f.path, number, words)
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

// stanza is the head of an iface stanza: iface NAME inet static. What is not of
// an address family that has addresses, or only inherits, gives none.
func stanza(path string, line int, words []string) *Source {
	if len(words) < 2 {
		return nil
	}
	s := &Source{Tool: Ifupdown, File: path, Line: line, Name: words[1], family: "inet"}
	if len(words) >= 4 {
		s.family = words[2]
		s.Dynamic = words[3] == "dhcp" || words[3] == "auto"
	}
	return s
}

func (s *Source) option(key, value string) {
	switch key {
	case "address":
		s.Addresses = append(s.Addresses, value)
	case "gateway":
		s.Gateway = value
	}
}
