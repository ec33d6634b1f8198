package hostconf

import (
	"slices"
	"strings"
)

// match is the [Match] section of a .network file: all its conditions have to
// hold. One that only the device itself could answer (Driver=, Host=) is passed
// over beside others, and does not hold alone. systemd 252 has no OriginalName=
// in a .network file: it is passed over as networkd does it.
type match struct {
	lists map[string][]string // words by key; those that are turned round begin with "!"
}

// judged is the conditions that can be answered here.
var judged = []string{"Name", "MACAddress", "PermanentMACAddress", "Path", "Type", "Kind"}

// take merges the lists of one key; an empty one takes back those before it. A
// "!" before the first word turns round all words of the line, one before
// another word that word (systemd 252, config_parse_match_strv).
func (m *match) take(key, value string) {
	if !slices.Contains(judged, key) {
		return
	}
	if m.lists == nil {
		m.lists = map[string][]string{}
	}
	if value == "" {
		delete(m.lists, key)
		return
	}
	list, not := strings.CutPrefix(value, "!")
	for word := range strings.FieldsSeq(list) {
		if not {
			word = "!" + word
		}
		m.lists[key] = append(m.lists[key], word)
	}
}

func (m match) empty() bool { return len(m.lists) == 0 }

func (m match) takes(d Device) bool {
	known := false
	for key, words := range m.lists {
		if key == "Path" && d.isNIC() && d.Path == "" {
			continue
		}
		known = true
		if !d.answers(key, words) {
			return false
		}
	}
	return known
}

func (d Device) answers(key string, words []string) bool {
	switch key {
	case "MACAddress", "PermanentMACAddress":
		return slices.ContainsFunc(words, func(one string) bool { return same(one, d.MAC) })
	case "Path":
		return chosen(words, d.Path)
	case "Type":
		return chosen(words, d.iftype())
	case "Kind":
		return chosen(words, d.Kind)
	}
	return chosen(words, d.Name)
}

// iftype is what networkd calls a device's type: the kernel's DEVTYPE, or that
// of its hardware.
func (d Device) iftype() string {
	if d.isNIC() {
		return "ether"
	}
	return d.Kind
}

// chosen says that a list of shell patterns takes a value: none that is turned
// round may fit, and one of the others, if there are any, has to (systemd 252,
// net_condition_test_strv).
func chosen(words []string, value string) bool {
	positive, found := false, false
	for _, word := range words {
		pattern, not := strings.CutPrefix(word, "!")
		fits := value != "" && shell(pattern, value)
		if not && fits {
			return false
		}
		positive = positive || !not
		found = found || fits && !not
	}
	return found || !positive
}
