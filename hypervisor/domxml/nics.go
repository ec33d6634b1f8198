package domxml

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Metadata is our element for virDomainSetMetadata (VIR_DOMAIN_METADATA_ELEMENT,
// key "vmnetd", uri NS), "" when there is nothing to say. It has no prefix:
// libvirt gives it one, and refuses an element that has that prefix already
// (libvirt src/util/virxml.c, virXMLInjectNamespace).
func Metadata(nics []NIC, labels map[string]string) string {
	if len(nics) == 0 && len(labels) == 0 {
		return ""
	}
	return nicsXML{nics: nics, labels: labels}.String()
}

// MetadataText is Metadata with its namespace, to be put inside a domain's
// <metadata> by hand.
func MetadataText(nics []NIC) string {
	return nicsXML{nics: nics, prefix: "vmnetd", lead: "\n"}.String()
}

// WithNIC is the NICs with n in the place of the one of its MAC, and without
// another one of its id. What Import kept of the one of its MAC stays.
func (d Domain) WithNIC(n NIC) []NIC { return withNIC(d.NICs, n) }

func withNIC(nics []NIC, n NIC) []NIC {
	k := slices.IndexFunc(nics, func(o NIC) bool { return o.MAC == n.MAC })
	list := slices.Clone(nics)
	if k < 0 {
		list = append(list, n)
	} else {
		if n.Was == "" {
			n.Was = list[k].Was
		}
		list[k] = n
	}
	return slices.DeleteFunc(list, func(o NIC) bool { return o.MAC != n.MAC && n.ID != "" && o.ID == n.ID })
}

// WithoutNIC is the NICs without the one of that MAC.
func (d Domain) WithoutNIC(mac string) []NIC {
	mac = strings.ToLower(mac)
	return slices.DeleteFunc(slices.Clone(d.NICs), func(o NIC) bool { return o.MAC == mac })
}

// nicsXML is our metadata element to be written.
type nicsXML struct {
	nics   []NIC
	labels map[string]string
	prefix string  // "" without a namespace
	lead   string  // white space before each line, with its newline; "": all in one line
	was    *string // what the element stands in the place of
}

// String is the element, without lead before its first line.
func (x nicsXML) String() string {
	var b strings.Builder
	name := func(s string) string {
		if x.prefix == "" {
			return s
		}
		return x.prefix + ":" + s
	}
	inner := deeper(x.lead)
	b.WriteString("<" + name("nics"))
	if x.prefix != "" {
		fmt.Fprintf(&b, " xmlns:%s='%s'", x.prefix, NS)
	}
	b.WriteString(">")
	if x.was != nil {
		b.WriteString(inner + wasXML(name("was"), *x.was))
	}
	for _, n := range x.nics {
		b.WriteString(inner + n.xml(name))
	}
	for _, k := range slices.Sorted(maps.Keys(x.labels)) {
		fmt.Fprintf(&b, "%s<%s%s%s/>", inner, name("label"), attr("name", k), attr("value", x.labels[k]))
	}
	b.WriteString(x.lead + "</" + name("nics") + ">")
	return b.String()
}

func (n NIC) xml(name func(string) string) string {
	s := "<" + name("nic") + attr("mac", n.MAC) + some("id", n.ID) + some("network", n.Network) + some("mode", n.Mode) + some("ips", n.IPs)
	if n.Was == "" {
		return s + "/>"
	}
	return s + ">" + wasXML(name("was"), n.Was) + "</" + name("nic") + ">"
}

func wasXML(name, text string) string {
	if text == "" {
		return "<" + name + "/>"
	}
	return "<" + name + ">" + keptText.Replace(text) + "</" + name + ">"
}

func attr(name, value string) string { return fmt.Sprintf(" %s='%s'", name, escaped(value)) }

func some(name, value string) string {
	if value == "" {
		return ""
	}
	return attr(name, value)
}
