package policy

import (
	"fmt"
	"strings"
)

// filterLines say what is kept from leaving the guest: the first the whole, the
// others what somebody gave, and who.
func (c *choice) filterLines() []Line {
	lines := []Line{{"filter", c.filterText(), ""}}
	f := c.grant.filter
	for _, l := range []struct{ key, value string }{
		{"spoof", verdictOf(f.Spoof)}, {"dhcp_server", verdictOf(f.DHCPServer)}, {"ra", verdictOf(f.RA)},
		{"ethertypes", ethertypeTexts(f.Ethertypes)}, {"broadcast", fmt.Sprintf("%d packets/s", f.Broadcast)}, {"multicast", fmt.Sprintf("%d packets/s", f.Multicast)},
	} {
		if by, given := c.grant.by["filter."+l.key]; given {
			lines = append(lines, Line{"", l.key + " " + l.value, by.String()})
		}
	}
	return lines
}

func verdictOf(deny bool) string {
	if deny {
		return "deny"
	}
	return "allow"
}

func (c *choice) filterText() string {
	f := c.d.Filter
	var parts []string
	switch {
	case !c.hears(c.d.Mode.Info()):
		return fmt.Sprintf("none: the %s is in the hands of the namespace's root", c.d.Kind)
	case !f.On():
		return "off"
	case f.Spoof:
		parts = append(parts, c.pinned())
	default:
		parts = append(parts, "sources are not checked")
	}
	if !f.DHCPServer {
		parts = append(parts, "it may be a DHCP server")
	}
	if !f.RA {
		parts = append(parts, "it may send router advertisements")
	}
	return strings.Join(parts, "; ")
}

// pinned says which sources a guest can use.
func (c *choice) pinned() string {
	switch {
	case c.d.Learn:
		return "MAC pinned; IP and ARP checked as addresses are learned"
	case len(c.d.IPs) > 0:
		return "MAC, IP and ARP pinned"
	}
	return "MAC pinned; no IP known, so IP and ARP are not checked: --ip"
}

func ethertypeTexts(types []uint16) string {
	names := map[uint16]string{0x0800: "ipv4", 0x0806: "arp", 0x86dd: "ipv6"}
	var parts []string
	for _, t := range types {
		name, known := names[t]
		if !known {
			name = fmt.Sprintf("0x%04x", t)
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}
