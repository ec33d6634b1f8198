package hostconf

import "strings"

// setting is one line of a file of sections: KEY=VALUE in [SECTION].
type setting struct {
	section, key, value string
	line                int
}

// settings reads a file such as systemd and NetworkManager have (systemd.syntax(7)).
func settings(text string) []setting {
	var all []setting
	section := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		key, value, isSetting := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		case isSetting:
			all = append(all, setting{section, strings.TrimSpace(key), strings.TrimSpace(value), i + 1})
		}
	}
	return all
}
