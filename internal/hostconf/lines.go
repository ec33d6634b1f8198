package hostconf

import (
	"fmt"
	"strings"
)

// Device is one that is to get what a Source gives to another one.
type Device struct {
	Name    string
	Kind    string            // the kernel's: bond, team, bridge
	Options map[string]string // of a bond, by the kernel's names, mode among them
}

// Lines is what to write, in the tool's own words, so that it gives a Source's
// addresses to another device, and the file to write it to: the Source's own,
// of which it replaces what is about the old device, or a new one. No lines:
// the tool has no way to do it without taking the device over.
func (s Source) Lines(to Device) (file string, lines []string) {
	switch s.syntax {
	case Ifupdown:
		name := to.Name
		if _, label, labelled := strings.Cut(s.Name, ":"); labelled {
			name += ":" + label
		}
		return s.File, []string{"auto " + name, "iface " + name + " " + s.family + " static"}
	case Networkd:
		return s.File, []string{"[Match]", "Name=" + to.Name}
	case NetworkManager:
		if to.Kind == "team" {
			return "", nil // it would start a teamd of its own
		}
		return "/etc/NetworkManager/system-connections/" + to.Name + ".nmconnection", s.keyfileLines(to)
	}
	return s.File, s.netplanLines(to)
}

func (s Source) netplanLines(to Device) []string {
	lines := []string{"network:", "  ethernets:", "    " + to.Name + ":", "      addresses: [" + quoted(s.Addresses) + "]"}
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
		lines = append(lines, "[bridge]", "stp="+map[bool]string{true: "true", false: "false"}[to.Options["stp_state"] == "1"])
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

// Command is one by which a tool lets go of what it holds.
type Command struct{ Tool, Line string }

// LetGo is the commands by which the tools behind a Source let a device go, for
// good: none for one that does nothing once it has set a device up. A tool that
// lets go may take the device's addresses with it.
func (s Source) LetGo(device string) []Command {
	var commands []Command
	if s.Tool == CloudInit {
		commands = append(commands, Command{CloudInit, "echo '" + cloudLine + "' > " + cloudFile})
	}
	switch s.holder {
	case NetworkManager:
		commands = append(commands, Command{s.holder, `printf '[keyfile]\nunmanaged-devices+=interface-name:` + device + `\n' > /etc/NetworkManager/conf.d/90-` + device + `.conf && nmcli general reload conf`})
	case Networkd:
		commands = append(commands, Command{s.holder, `printf '[Match]\nName=` + device + `\n[Link]\nUnmanaged=yes\n' > /etc/systemd/network/00-` + device + `.network && networkctl reload`})
	}
	return commands
}
