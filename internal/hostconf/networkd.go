package hostconf

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// networkFolders is where networkd looks, the first one first; on hosts without
// a merged /usr the last one is a folder of its own.
var networkFolders = []string{"etc/systemd/network", "run/systemd/network", "usr/local/lib/systemd/network", "usr/lib/systemd/network", "lib/systemd/network"}

// netplanned is how the files begin that netplan writes for networkd.
const netplanned = "/run/systemd/network/10-netplan-"

// networkd reads .network files and their drop-ins. A file in /etc hides one of
// the same name in /run and so on; of those that match a device the first by
// name counts, and an empty one or a link to /dev/null does not, whatever its
// drop-ins say (systemd.network(5)).
func networkd(r *reader) []entry {
	var entries []entry
	for _, f := range r.layered("*.network", networkFolders...) {
		if f.text == "" {
			continue
		}
		name := filepath.Base(f.path)
		var folders []string
		for _, folder := range networkFolders {
			folders = append(folders, filepath.Join(folder, literal(name)+".d"))
		}
		if e, ok := network(f, r.layered("*.conf", folders...)...); ok {
			entries = append(entries, e)
		}
	}
	return entries
}

// literal is a name as a pattern that takes this name alone.
func literal(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// network is a .network file with its drop-ins. One that says of no device that
// it is for it is ignored.
func network(f file, drops ...file) (entry, bool) {
	n := networkFile{Source: Source{Tool: Networkd, File: f.path, Line: 1, Name: filepath.Base(f.path), syntax: Networkd, holder: Networkd}}
	n.generated = strings.HasPrefix(f.path, netplanned)
	for _, set := range settings(unfolded(f)) {
		n.take(set)
	}
	n.generated = false
	for _, drop := range drops {
		for _, set := range settings(unfolded(drop)) {
			n.take(set)
			// To change the file's own [Match] would not be enough.
			n.whole = n.whole || set.section == "Match" || set.key == "Address" || set.key == "Gateway"
		}
	}
	n.end()
	n.whole = n.whole || !strings.HasPrefix(f.path, "/etc/")
	silent := n.unmanaged || strings.HasPrefix(f.path, netplanned) && !n.Gives()
	return entry{Source: n.Source, only: true, silent: silent, cloud: f.clouds(), matches: n.match.takes}, !n.match.empty()
}

// networkFile is a .network file while it is read, with its drop-ins.
type networkFile struct {
	Source
	match     match
	generated bool // the file at hand is netplan's, whose own file is the source
	unmanaged bool
	dhcp, ra  bool
	sections  []section // [Address] and [Route], and each Address= and Gateway= of [Network]
}

// section is what one [Address] or [Route] says; in each a later line replaces
// an earlier one.
type section struct {
	path                 string
	head, line           int // line is that of the address
	address, gateway, to string
}

func (n *networkFile) take(set setting) {
	switch set.section + "." + set.key {
	case "Link.Unmanaged":
		n.unmanaged = truth(set.value)
	case "Network.DHCP", "Network.IPv6AcceptRA":
		n.dynamic(set)
	case "Network.Address":
		set.head = set.line // each is a section of its own
		n.addressed(set)
	case "Address.Address":
		n.addressed(set)
	case "Network.Gateway":
		set.head = set.line
		n.section(set).gateway = set.value
	case "Route.Gateway":
		n.section(set).gateway = set.value
	case "Route.Destination":
		n.section(set).to = set.value
	}
	if set.section == "Match" {
		n.match.take(set.key, set.value)
	}
}

func (n *networkFile) dynamic(set setting) {
	on := truth(set.value) || slices.Contains([]string{"ipv4", "ipv6", "v4", "v6", "both"}, set.value)
	on = on && !n.generated
	if set.key == "DHCP" {
		n.dhcp = on
	} else {
		n.ra = on
	}
}

// addressed takes an address. networkd ignores what is none: the empty string
// too, which takes nothing back in systemd 252. Later ones differ there; that a
// plan is refused for an address that was taken back costs less than a host cut
// off.
func (n *networkFile) addressed(set setting) {
	_, err := netip.ParsePrefix(set.value)
	if _, errA := netip.ParseAddr(set.value); err == nil || errA == nil {
		s := n.section(set)
		s.address, s.line = set.value, set.line
	}
}

func (n *networkFile) section(set setting) *section {
	for i, s := range n.sections {
		if s.path == set.path && s.head == set.head {
			return &n.sections[i]
		}
	}
	n.sections = append(n.sections, section{path: set.path, head: set.head})
	return &n.sections[len(n.sections)-1]
}

// end makes a Source of what was read.
func (n *networkFile) end() {
	n.Dynamic = n.dhcp || n.ra
	for _, s := range n.sections {
		if strings.HasPrefix(s.path, netplanned) && filepath.Base(s.path) == n.Name {
			continue // the source of these is netplan's own file
		}
		if s.address != "" {
			n.place(s)
			n.address(s.address)
		}
		if _, err := netip.ParseAddr(s.gateway); err == nil && everywhere(s.to) { // it may be _dhcp4
			n.gateway(s.gateway)
		}
	}
}

// place notes where addresses are given: the first line of each file.
func (n *networkFile) place(s section) {
	if len(n.Addresses) == 0 {
		n.File, n.Line = s.path, s.line
		return
	}
	if s.path != n.File && !slices.ContainsFunc(n.also, func(p string) bool { return strings.HasPrefix(p, s.path+":") }) {
		n.also = append(n.also, fmt.Sprintf("%s:%d", s.path, s.line))
	}
}

// everywhere says that a route's destination is the default one.
func everywhere(to string) bool {
	return slices.Contains([]string{"", "default", "0.0.0.0/0", "::/0"}, to)
}
