package hypervisor

import (
	"encoding/xml"
	"strconv"
	"strings"
)

// freePorts counts the PCIe ports of a domain with nothing in them; ok is false
// where NICs are not plugged into such ports.
func freePorts(domain string) (n int, ok bool) {
	ports, taken := map[int64]bool{}, map[int64]bool{}
	dec := xml.NewDecoder(strings.NewReader(domain))
	for {
		tok, err := dec.Token()
		if err != nil {
			break
		}
		e, is := tok.(xml.StartElement)
		switch {
		case !is:
		case e.Name.Local == "controller" && attrOf(e, "model") == "pcie-root":
			ok = true
		case e.Name.Local == "controller" && attrOf(e, "model") == "pcie-root-port":
			index, err := strconv.ParseInt(attrOf(e, "index"), 10, 32)
			ports[index] = err == nil
		case e.Name.Local == "address" && attrOf(e, "type") == "pci":
			bus, err := strconv.ParseInt(attrOf(e, "bus"), 0, 32)
			taken[bus] = err == nil
		}
	}
	for index := range ports {
		if !taken[index] {
			n++
		}
	}
	return n, ok
}
