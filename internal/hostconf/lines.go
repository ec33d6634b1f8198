package hostconf

import (
	"fmt"
	"strings"
)

// Lines is what to write, in the tool's own words, so that it gives a Source's
// addresses to another device, and the file to write it to: the Source's own,
// of which it replaces what is about the old device, or a new one. No lines:
// the tool has no way to do it without taking the device over.
func (s Source) Lines(to Device) (file string, lines []string) {
	switch s.syntax {
	case Ifupdown:
		return s.File, s.stanzaLines(to)
	case Networkd:
		if s.whole {
			return "/etc/systemd/network/00-" + to.Name + ".network", s.networkLines(to)
		}
		return s.File, []string{"[Match]", "Name=" + to.Name}
	case NetworkManager:
		if to.Kind == "team" {
			return "", nil // it would start a teamd of its own
		}
		return "/etc/NetworkManager/system-connections/" + to.Name + ".nmconnection", s.keyfileLines(to)
	}
	if s.holder == NetworkManager && to.Kind == "team" {
		return "", nil
	}
	return s.File, s.netplanLines(to)
}

// stanzaLines say allow-hotplug and not auto: networking.service runs before a
// device that a daemon makes can be there, fails for it, and does not come back
// to it. A label (eno1:0) becomes a further stanza of the device: udev asks for
// devices, and would never ask for wan:0.
func (s Source) stanzaLines(to Device) []string {
	return []string{"allow-hotplug " + to.Name, "iface " + to.Name + " " + s.family + " static"}
}

// networkLines is a whole .network file.
func (s Source) networkLines(to Device) []string {
	lines := []string{"[Match]", "Name=" + to.Name, "[Network]"}
	for _, a := range s.Addresses {
		lines = append(lines, "Address="+a)
	}
	for _, via := range s.gateways {
		lines = append(lines, "Gateway="+via)
	}
	return lines
}

// netplanLines is a definition. To networkd the device is one that is there,
// which netplan has no better word for than ethernets; NetworkManager leaves a
// bond alone that it is given as one.
func (s Source) netplanLines(to Device) []string {
	lines := []string{"network:", "  ethernets:", "    " + to.Name + ":"}
	if s.holder == NetworkManager {
		lines[1] = "  " + to.Kind + "s:"
	}
	if s.renderer != "" {
		lines = append(lines, "      renderer: "+s.renderer)
	}
	if options := netplanOptions(to); s.holder == NetworkManager && options != "" {
		lines = append(lines, "      parameters: {"+options+"}")
	}
	lines = append(lines, "      addresses: ["+quoted(s.Addresses)+"]")
	if len(s.gateways) == 0 {
		return lines
	}
	lines = append(lines, "      routes:")
	for _, via := range s.gateways {
		all := "0.0.0.0/0" // netplan of before 0.104 has no word for it
		if sixth(via) {
			all = "'::/0'"
		}
		lines = append(lines, fmt.Sprintf("        - {to: %s, via: %s}", all, quoted([]string{via})))
	}
	return lines
}

// netplanOptions is what NetworkManager needs to know when it makes the device
// before vmnetd does.
func netplanOptions(to Device) string {
	if to.Kind == "bridge" {
		return "stp: " + stp(to)
	}
	var options []string
	for _, o := range [][2]string{{"mode", "mode"}, {"mii-monitor-interval", "miimon"}} {
		if v := to.Options[o[1]]; v != "" {
			options = append(options, o[0]+": "+v)
		}
	}
	return strings.Join(options, ", ")
}

func stp(to Device) string { return fmt.Sprint(to.Options["stp_state"] == "1") }

// quoted is addresses as YAML takes them inside brackets: an IPv6 one may begin
// or end with a colon.
func quoted(addresses []string) string {
	var out []string
	for _, a := range addresses {
		if sixth(a) {
			a = "'" + a + "'"
		}
		out = append(out, a)
	}
	return strings.Join(out, ", ")
}

// keyfileLines is a connection as a file of its own. NetworkManager reads it
// when it starts; by nmcli it would give the address to a second device at
// once.
func (s Source) keyfileLines(to Device) []string {
	lines := []string{"[connection]", "id=" + to.Name, "type=" + to.Kind, "interface-name=" + to.Name}
	switch to.Kind {
	case "bond":
		lines = append(lines, "[bond]")
		for _, o := range []string{"mode", "miimon"} {
			if to.Options[o] != "" {
				lines = append(lines, o+"="+to.Options[o])
			}
		}
	case "bridge":
		lines = append(lines, "[bridge]", "stp="+stp(to))
	}
	lines = append(lines, s.familyLines("[ipv4]", false)...)
	return append(lines, s.familyLines("[ipv6]", true)...)
}

func (s Source) familyLines(section string, six bool) []string {
	lines := []string{section, "method=manual"}
	for _, a := range s.Addresses {
		if sixth(a) == six {
			lines = append(lines, fmt.Sprintf("address%d=%s", len(lines)-1, a))
		}
	}
	if len(lines) == 2 {
		return nil
	}
	for _, via := range s.gateways {
		if sixth(via) == six {
			return append(lines, "gateway="+via)
		}
	}
	return lines
}
