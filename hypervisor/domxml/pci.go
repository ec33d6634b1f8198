package domxml

import (
	"fmt"
	"regexp"
	"strconv"
)

// pci is a PCI address: domain, bus, slot, function.
type pci [4]uint64

// The names of its parts in an <address>, and how many bits each has (libvirt
// src/util/virpci.c, virPCIDeviceAddressIsValid).
var (
	pciParts = [4]string{"domain", "bus", "slot", "function"}
	pciBits  = [4]int{32, 8, 5, 3}
)

func (p pci) String() string { return fmt.Sprintf("%04x:%02x:%02x.%x", p[0], p[1], p[2], p[3]) }

func (p pci) valid() bool {
	for i, bits := range pciBits {
		if p[i]>>bits != 0 {
			return false
		}
	}
	return true
}

// pciOf reads an <address>; "" when it is none, or of another kind. One without
// bus and slot asks libvirt to choose.
func pciOf(e *element) string {
	if e.attr("type") != "pci" || e.attr("bus") == "" && e.attr("slot") == "" {
		return ""
	}
	var p pci
	for i, part := range pciParts {
		s := e.attr(part)
		if s == "" {
			continue
		}
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			return ""
		}
		p[i] = n
	}
	if !p.valid() {
		return ""
	}
	return p.String()
}

var pciForm = regexp.MustCompile(`^([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])$`)

// IsPCI says whether an address is of the form 0000:05:00.0.
func IsPCI(addr string) bool { return pciXML(addr) != "" }

// pciXML is the <address> for 0000:05:00.0, "" for what is no such address.
func pciXML(addr string) string {
	parts := pciForm.FindStringSubmatch(addr)
	if parts == nil {
		return ""
	}
	var p pci
	for i := range p {
		n, err := strconv.ParseUint(parts[i+1], 16, 32)
		if err != nil {
			return ""
		}
		p[i] = n
	}
	if !p.valid() {
		return ""
	}
	return fmt.Sprintf("<address type='pci' domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%x'/>", p[0], p[1], p[2], p[3])
}
