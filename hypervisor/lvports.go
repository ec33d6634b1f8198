package hypervisor

import (
	"encoding/xml" //nolint:depguard // counts elements
	"strconv"
	"strings"
)

// freePorts counts the PCIe ports of a domain with nothing in them; ok is false
// where NICs are not plugged into such ports, or the text cannot be read.
func freePorts(domain string) (n int, ok bool) {
	ports, taken := map[int64]bool{}, map[int64]bool{}
	dec := xml.NewDecoder(strings.NewReader(domain))
	for tok, err := dec.Token(); err == nil; tok, err = dec.Token() {
		e, is := tok.(xml.StartElement)
		if !is {
			continue
		}
		switch model := attrOf(e, "model"); {
		case e.Name.Local == "controller" && model == "pcie-root":
			ok = true
		case e.Name.Local == "controller" && model == "pcie-root-port":
			ports[number(attrOf(e, "index"))] = true
		case e.Name.Local == "address" && attrOf(e, "type") == "pci":
			taken[number(attrOf(e, "bus"))] = true
		}
	}
	for index := range ports {
		if !taken[index] {
			n++
		}
	}
	return n, ok
}

// number is one as libvirt writes it, also in hex; -1 for what is none.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 0, 32)
	if err != nil {
		return -1
	}
	return n
}

func attrOf(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
