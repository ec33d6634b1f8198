package domxml

import (
	"encoding/xml" //nolint:depguard // the type of an attribute
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Children of an <interface> that mean the same whatever its type is: what the
// guest sees of the NIC. They are copied.
var copied = []string{"mac", "model", "driver", "link", "mtu", "boot", "rom", "alias", "acpi", "address"}

// Children that ours replaces, and the attributes of them that say only where
// the interface was.
var replaced = map[string][]string{"source": {"dev", "mode", "bridge"}, "target": {"dev"}}

// inTheWay names what of an <interface> would be lost if it became ours, "" when
// nothing would.
func inTheWay(e *element) string {
	for _, a := range e.attrs {
		if plain(a, "type") || plain(a, "trustGuestRxFilters") && a.Value == "no" {
			continue
		}
		return fmt.Sprintf("<interface %s='%s'> is in the way", a.Name.Local, vmnetd.Printable(a.Value))
	}
	var seen []string
	for _, k := range e.kids {
		name := k.name.Local
		if slices.Contains(seen, name) {
			return fmt.Sprintf("a second <%s> is in the way", name)
		}
		if problem := notKept(k); problem != "" {
			return problem
		}
		seen = append(seen, name)
	}
	return ""
}

// notKept names what of a child would be lost.
func notKept(k *element) string {
	name := k.name.Local
	places, gone := replaced[name]
	switch {
	case k.name.Space != "" || !gone && !slices.Contains(copied, name):
		return fmt.Sprintf("<%s> is in the way", name)
	case !gone:
		return ""
	case len(k.kids) > 0:
		return fmt.Sprintf("<%s> in its <%s> is in the way", k.kids[0].name.Local, name)
	}
	for _, a := range k.attrs {
		if !plain(a, places...) {
			return fmt.Sprintf("<%s %s='%s'> is in the way", name, a.Name.Local, vmnetd.Printable(a.Value))
		}
	}
	return ""
}

func plain(a xml.Attr, names ...string) bool {
	return a.Name.Space == "" && slices.Contains(names, a.Name.Local)
}

// rewritten is an <interface> made ours: its children are copied in their order,
// for what they say to the guest, of which Element knows only a part.
func (d *document) rewritten(e *element, to Element) string {
	lines := []string{d.text[e.kid("mac").start:e.kid("mac").end], to.target()}
	if to.Queues > 1 && e.kid("driver") == nil {
		lines = append(lines, fmt.Sprintf("<driver queues='%d'/>", to.Queues))
	}
	if to.MTU > 0 && e.kid("mtu") == nil {
		lines = append(lines, fmt.Sprintf("<mtu size='%d'/>", to.MTU))
	}
	for _, k := range e.kids {
		switch k.name.Local {
		case "mac", "source", "target":
		case "driver":
			lines = append(lines, d.with(k, "queues", to.Queues, 1))
		case "mtu":
			lines = append(lines, d.with(k, "size", to.MTU, 0))
		default:
			lines = append(lines, d.text[k.start:k.end])
		}
	}
	out := lead(d.text, e.start)
	return "<interface type='ethernet'>" + deeper(out) + strings.Join(lines, deeper(out)) + out + "</interface>"
}

// with is an element with another number for an attribute; as it stands when it
// says that number already. Without the attribute it says other.
func (d *document) with(e *element, name string, n, other int) string {
	if number(e.attr(name), other) == n {
		return d.text[e.start:e.end]
	}
	var b strings.Builder
	b.WriteString("<" + e.name.Local)
	for _, a := range e.attrs {
		if a.Name.Space == "" && a.Name.Local != name {
			b.WriteString(attr(a.Name.Local, a.Value))
		}
	}
	b.WriteString(attr(name, strconv.Itoa(n)))
	if len(e.kids) == 0 {
		return b.String() + "/>"
	}
	return b.String() + ">" + d.text[e.inner:e.close] + "</" + e.name.Local + ">"
}
