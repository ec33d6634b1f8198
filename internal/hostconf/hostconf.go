package hostconf

import (
	"fmt"
	"net"
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

// Source is a place in the host's configuration that is about a device.
type Source struct {
	Tool      string
	File      string // as the host sees it: /etc/network/interfaces
	Line      int    // from 1
	Name      string // of the connection, stanza or definition
	Addresses []string
	Gateway   string // the first of its gateways
	Dynamic   bool   // DHCP or router advertisements give addresses

	gateways []string
	syntax   string // the tool in whose words File is written
	holder   string // the tool that has the device in hand, "" where none does once it is set up
	family   string // inet, inet6: of a stanza of interfaces(5)
}

// Place is FILE:LINE.
func (s Source) Place() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

// readers is what reads each tool's files beneath root.
var readers = []func(root string) []entry{interfaces, networkd, keyfiles, netplans}

// entry is a Source and which devices it is for. mac is "" of a device that is
// not hardware.
type entry struct {
	Source
	matches func(device, mac string) bool
	only    bool // of several of a tool that match, the first counts
	silent  bool // it configures nothing, or only what another entry is the source of
	cloud   bool // cloud-init wrote the file
}

// Find is what would configure a device at boot. root is "/", or a folder in
// which a test has put files; mac is a NIC's own, "" for any other device.
func Find(root, device, mac string) []Source {
	var found []Source
	for _, read := range readers {
		for _, e := range read(root) {
			if !e.matches(device, mac) {
				continue
			}
			if e.cloud && !cloudOff(root) {
				e.Tool = CloudInit
			}
			if !e.silent {
				found = append(found, e.Source)
			}
			if e.only {
				break
			}
		}
	}
	return found
}

// Names says whether any of the host's tools has something to say about a
// device. A place that takes whatever is there (Type=ether) names no device that
// is not hardware.
func Names(root, device, mac string) bool { return len(Find(root, device, mac)) > 0 }

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
