package hostconf

import (
	"slices"
	"strings"
)

// selection is one word of a line that says which interfaces ifupdown brings up
// by itself, and when: auto when it runs at boot, allow-hotplug when udev sees
// the device (interfaces(5)).
type selection struct {
	pattern string // NAME, /GLOB, mac/GLOB
	logical string // the stanza that is meant, "" is that of the device's name
	hotplug bool
}

func (p *ifupdown) pick(key string, words []string) {
	if key != "auto" && key != "allow-auto" && key != "allow-hotplug" {
		return // a class that nothing asks for by itself
	}
	for _, word := range words {
		pattern, logical, _ := strings.Cut(word, "=")
		p.picked = append(p.picked, selection{pattern, logical, key == "allow-hotplug"})
	}
}

// atStart says that ifupdown brings a device up by a stanza when it runs at boot.
func (p *ifupdown) atStart(stanza string, d Device) bool {
	return slices.ContainsFunc(p.picked, func(s selection) bool { return !s.hotplug && s.stanza(d) == stanza })
}

// byUdev says that ifupdown brings a device up when it comes. udev has it do so
// by the device's name, whatever stanza the line names, and so never by that of
// a label (ifupdown-hotplug of 0.8.41).
func (p *ifupdown) byUdev(d Device) bool {
	return slices.ContainsFunc(p.picked, func(s selection) bool { return s.hotplug && s.takes(d, s.pattern) })
}

// stanza is the name of the stanza that it brings a device up by, "" where it is
// for other devices.
func (s selection) stanza(d Device) string {
	name, _, _ := strings.Cut(s.pattern, ":") // a label is of its device
	switch {
	case !s.takes(d, name):
		return ""
	case s.logical != "":
		return s.logical
	case strings.Contains(s.pattern, "/"):
		return d.Name
	}
	return s.pattern
}

func (s selection) takes(d Device, name string) bool {
	variable, value, isPattern := strings.Cut(s.pattern, "/")
	if !isPattern {
		return name == d.Name
	}
	value, _, _ = strings.Cut(value, "/") // which of those that fit
	switch variable {
	case "":
		return shell(value, d.Name)
	case "mac":
		return d.MAC != "" && shell(strings.ToLower(value), strings.ToLower(d.MAC))
	}
	return false
}
