package hostconf

import (
	"slices"
	"strings"
)

// setting is one line of a file of sections: KEY=VALUE in [SECTION].
type setting struct {
	section, key, value string
	line                int
	head                int // line of the section's head: several may have one name
}

// settings reads a file such as systemd and NetworkManager have (systemd.syntax(7)).
func settings(text string) []setting {
	var all []setting
	section, head := "", 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		key, value, isSetting := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section, head = strings.Trim(line, "[]"), i+1
		case isSetting:
			all = append(all, setting{section, strings.TrimSpace(key), strings.TrimSpace(value), i + 1, head})
		}
	}
	return all
}

// truth is how systemd, NetworkManager and netplan (YAML 1.1) write yes.
func truth(value string) bool {
	return slices.Contains([]string{"yes", "y", "true", "t", "on", "1"}, strings.ToLower(value))
}
