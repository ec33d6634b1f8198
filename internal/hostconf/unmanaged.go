package hostconf

import (
	"path/filepath"
	"slices"
	"strings"
)

// devices is a device list of NetworkManager.conf(5): interface-name:en*,
// mac:…, type:ethernet, except:….
type devices []string

// unmanaged is the devices that NetworkManager is told to leave alone. A later
// file's list takes the place of an earlier one's, unless it is written with +=;
// what the host's packages bring comes first, what /etc/…/conf.d has comes last
// (NetworkManager.conf(5)).
func unmanaged(r *reader, stanzas []entry) devices {
	files := r.layered("*.conf", "etc/NetworkManager/conf.d", "run/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d")
	files = append(files, r.glob("/etc/NetworkManager/NetworkManager.conf")...)
	folders := []string{"/usr/lib/NetworkManager/conf.d", "/run/NetworkManager/conf.d", "/etc/NetworkManager", "/etc/NetworkManager/conf.d"}
	rank := func(f file) int { return slices.Index(folders, filepath.Dir(f.path)) }
	slices.SortStableFunc(files, func(a, b file) int { return rank(a) - rank(b) })
	var list devices
	for _, f := range files {
		list = list.with(f)
	}
	return append(list, ofIfupdown(files, stanzas)...)
}

// ofIfupdown is the devices that NetworkManager leaves to ifupdown: Debian has it
// keep off those that interfaces(5) has stanzas of (its ifupdown plugin, where
// that is not told managed=true).
func ofIfupdown(files []file, stanzas []entry) devices {
	plugin, managed := false, false
	for _, f := range files {
		for _, set := range settings(f) {
			switch set.section + "." + set.key {
			case "main.plugins":
				plugin = slices.Contains(parts(set.value), "ifupdown")
			case "ifupdown.managed":
				managed = truth(set.value)
			}
		}
	}
	if !plugin || managed {
		return nil
	}
	var list devices
	for _, s := range stanzas {
		list = append(list, "interface-name:="+s.Name)
	}
	return list
}

func (d devices) with(f file) devices {
	matched := map[int]string{} // match-device of [device…] sections, by their heads
	for _, set := range settings(f) {
		switch {
		case set.section == "keyfile" && set.key == "unmanaged-devices":
			d = parts(set.value)
		case set.section == "keyfile" && set.key == "unmanaged-devices+":
			d = append(d, parts(set.value)...)
		case strings.HasPrefix(set.section, "device") && set.key == "match-device":
			matched[set.head] = set.value
		}
	}
	for _, set := range settings(f) {
		if strings.HasPrefix(set.section, "device") && set.key == "managed" && !truth(set.value) {
			d = append(d, parts(matched[set.head])...)
		}
	}
	return d
}

func parts(list string) devices {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
}

// take says whether the list has a device and does not except it.
func (d devices) take(device Device) bool {
	taken := false
	for _, one := range d {
		one, except := strings.CutPrefix(one, "except:")
		if !takes(one, device) {
			continue
		}
		if except {
			return false
		}
		taken = true
	}
	return taken
}

func takes(one string, d Device) bool {
	if pattern, ok := strings.CutPrefix(one, "interface-name:"); ok {
		exact, found := strings.CutPrefix(pattern, "=")
		if found {
			return exact == d.Name
		}
		return shell(pattern, d.Name)
	}
	if kind, ok := strings.CutPrefix(one, "type:"); ok {
		return kind == "ethernet" && d.isNIC() || kind == d.Kind
	}
	return one == "*" || one == d.Name || same(strings.TrimPrefix(one, "mac:"), d.MAC)
}
