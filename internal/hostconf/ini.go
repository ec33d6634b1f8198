package hostconf

import (
	"slices"
	"strings"
)

// setting is one line of a file of sections: KEY=VALUE in [SECTION].
type setting struct {
	section, key, value string
	path                string
	line                int
	head                int // line of the section's head: several may have one name
}

// settings reads a file such as systemd and NetworkManager have.
func settings(f file) []setting {
	var all []setting
	section, head := "", 0
	for i, line := range strings.Split(f.text, "\n") {
		line = strings.TrimSpace(line)
		key, value, isSetting := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section, head = strings.Trim(line, "[]"), i+1
		case isSetting:
			all = append(all, setting{section, strings.TrimSpace(key), strings.TrimSpace(value), f.path, i + 1, head})
		}
	}
	return all
}

// unfolded is a file of systemd's with each setting on one line: a backslash at
// the end continues a line, comments in between are left out (systemd.syntax(7)).
// Lines keep their numbers.
func unfolded(f file) file {
	lines := strings.Split(f.text, "\n")
	for i := 0; i < len(lines); i++ {
		first := i
		for strings.HasSuffix(lines[first], `\`) && i+1 < len(lines) {
			i++
			if next := strings.TrimSpace(lines[i]); !strings.HasPrefix(next, "#") && !strings.HasPrefix(next, ";") {
				lines[first] = strings.TrimSuffix(lines[first], `\`) + " " + lines[i]
			}
			lines[i] = ""
		}
	}
	return file{f.path, strings.Join(lines, "\n")}
}

// truth is how systemd, NetworkManager and netplan (YAML 1.1) write yes.
func truth(value string) bool {
	return slices.Contains([]string{"yes", "y", "true", "t", "on", "1"}, strings.ToLower(value))
}
