package hostconf

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// Tools.
const (
	Ifupdown       = "ifupdown"
	Networkd       = "systemd-networkd"
	NetworkManager = "NetworkManager"
	Netplan        = "netplan"
	CloudInit      = "cloud-init" // it wrote a file of one of the others, and may write it again
)

// Device is one that the host has, or is to have.
type Device struct {
	Name    string
	Kind    string            // the kernel's: bond, team, bridge; "" for a NIC
	MAC     string            // a NIC's own
	Path    string            // a NIC's place, as udev's ID_PATH has it; "" is unknown
	Options map[string]string // of a bond or bridge, by the kernel's names, a bond's mode among them
}

// Source is a place in the host's configuration that is about a device.
type Source struct {
	Tool      string
	File      string // as the host sees it: /etc/network/interfaces
	Line      int    // from 1
	Name      string // of the connection, stanza or definition
	Addresses []string
	Gateway   string // the first of its gateways
	Dynamic   bool   // DHCP or router advertisements give addresses
	Early     bool   // it is tried once, early at boot, and fails for a device that is not there yet
	Late      bool   // it is done whenever the device comes

	gateways []string
	also     []string // further places, FILE:LINE, that give addresses
	syntax   string   // the tool in whose words File is written
	holder   string   // the tool that has the device in hand, "" where none does once it is set up
	family   string   // inet, inet6: of a stanza of interfaces(5)
	whole    bool     // File cannot be pointed at another device: it takes a file of its own
	renderer string   // what has to be said so that netplan has the same tool do it
}

// Place is FILE:LINE, of all the files that give addresses.
func (s Source) Place() string {
	return strings.Join(append([]string{fmt.Sprintf("%s:%d", s.File, s.Line)}, s.also...), " and ")
}

// Gives says that a device has an address by it.
func (s Source) Gives() bool { return len(s.Addresses) > 0 || s.Dynamic }

// entry is a Source and which devices it is for.
type entry struct {
	Source
	matches     func(Device) bool
	early, late func(Device) bool // as in Source; nil is never early, always late
	only        bool              // of several of a tool that match, the first counts
	silent      bool              // it configures nothing, or only what another entry is the source of
	cloud       bool              // cloud-init wrote the file
}

// Host is what a host's tools are told of its network.
type Host struct {
	Unread []string // what could not be read of it, a sentence each

	tools    [][]entry
	cloudOff bool
}

// Read reads a host's configuration. root is "/", or a folder in which a test
// has put files.
func Read(root string) *Host {
	r := &reader{root: root}
	stanzas, networks := interfaces(r), networkd(r)
	left := unmanaged(r, stanzas)
	h := &Host{tools: [][]entry{stanzas, networks, keyfiles(r, left), netplans(r, left, networks)}, cloudOff: cloudOff(r)}
	h.Unread = r.unread
	return h
}

// Find is what would configure a device at boot. A place that takes whatever
// NIC is there names no other device.
func (h *Host) Find(d Device) []Source {
	var found []Source
	for _, entries := range h.tools {
		for _, e := range entries {
			if !e.matches(d) {
				continue
			}
			if !e.silent {
				found = append(found, e.of(d, h.cloudOff))
			}
			if e.only {
				break
			}
		}
	}
	return found
}

// of is an entry as it is for one device.
func (e entry) of(d Device, cloudOff bool) Source {
	s := e.Source
	if e.cloud && !cloudOff {
		s.Tool = CloudInit
	}
	s.Early = e.early != nil && e.early(d)
	s.Late = e.late == nil || e.late(d)
	return s
}

func (d Device) isNIC() bool { return d.Kind == "" }

func (s *Source) address(a string) {
	if a != "" {
		s.Addresses = append(s.Addresses, a)
	}
}

func (s *Source) gateway(via string) {
	if via == "" {
		return
	}
	s.gateways = append(s.gateways, via)
	s.Gateway = s.gateways[0]
}

// sixth says that an address, with or without its prefix length, is an IPv6 one.
func sixth(address string) bool { return strings.Contains(address, ":") }

// same compares MACs in any way that people write them.
func same(a, b string) bool {
	x, err := net.ParseMAC(a)
	y, errY := net.ParseMAC(b)
	return err == nil && errY == nil && x.String() == y.String()
}

// shell says that a shell pattern takes a name; a bad one takes none.
func shell(pattern, name string) bool {
	ok, err := filepath.Match(pattern, name)
	return ok && err == nil
}
