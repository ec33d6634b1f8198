package domxml

import (
	"maps"
	"slices"
)

// Revert undoes Import: each interface that metadata keeps the old element of
// gets it back, and loses what metadata said of it. What Import gave is as it was
// byte for byte, unless our metadata was changed since by something else.
func Revert(text string) (string, []Changed, error) {
	doc, err := read(text)
	if err != nil {
		return "", nil, err
	}
	dom, err := doc.domain()
	if err != nil {
		return "", nil, err
	}
	var edits []edit
	var list []Changed
	rest := dom.NICs
	for _, n := range dom.NICs {
		if n.Was == "" {
			continue
		}
		c, e := doc.revert(dom, n)
		if list = append(list, c); c.Problem == "" {
			edits = append(edits, e)
			rest = slices.DeleteFunc(slices.Clone(rest), func(o NIC) bool { return o.MAC == n.MAC })
		}
	}
	if len(edits) == 0 {
		return text, list, nil
	}
	if out, ok := doc.restored(edits, rest, dom); ok {
		return out, list, nil
	}
	out := splice(text, append(edits, doc.forget(dom, rest)))
	_, err = Parse(out)
	return out, list, err
}

// revert puts one interface back.
func (d *document) revert(dom Domain, n NIC) (Changed, edit) {
	k := slices.IndexFunc(dom.Interfaces, func(i Interface) bool { return i.Ours() && i.MAC == n.MAC })
	if k < 0 {
		return Changed{Now: Element{NIC: n}, Problem: "no interface of ours has MAC " + n.MAC + " any more"}, edit{}
	}
	i, e := dom.Interfaces[k], d.interfaces[k]
	c := Changed{Now: Element{NIC: dom.NICOf(i), Target: i.Target, Queues: i.Queues, MTU: i.MTU, Addr: i.Addr, LinkDown: i.LinkDown}}
	was, err := fragment(n.Was)
	if err != nil || was.name != d.interfaces[k].name {
		c.Problem = "what metadata keeps of it is not one <interface>"
		return c, edit{}
	}
	if c.Was = interfaceOf(was); c.Was.MAC != n.MAC {
		c.Problem = "what metadata keeps of it has another MAC, " + c.Was.MAC
		return c, edit{}
	}
	return c, edit{e.start, e.end, n.Was}
}

// restored puts back also what stood where our metadata is. ok is false when
// that is not known, or would lose what has been said since the import.
func (d *document) restored(edits []edit, rest []NIC, dom Domain) (out string, ok bool) {
	e, ok := d.before()
	if !ok {
		return "", false
	}
	out = splice(d.text, append(slices.Clone(edits), e))
	now, err := Parse(out)
	if err != nil {
		return "", false
	}
	now.NICs = slices.DeleteFunc(now.NICs, func(n NIC) bool {
		return !slices.Contains(rest, n) && slices.ContainsFunc(dom.NICs, func(o NIC) bool { return o.MAC == n.MAC && o.Was != "" })
	})
	return out, slices.Equal(now.NICs, rest) && maps.Equal(now.Labels, dom.Labels)
}

// before is the edit that undoes ask's; ok is false when it is not known, or
// when others have written into <metadata> since.
func (d *document) before() (e edit, ok bool) {
	kept := d.nics.kept()
	if kept == nil {
		return edit{}, false
	}
	if *kept == "" {
		return without(d.text, d.metadata), d.emptyBut(d.nics)
	}
	was, err := fragment(*kept)
	if err != nil {
		return edit{}, false
	}
	if was.name == d.metadata.name {
		return edit{d.metadata.start, d.metadata.end, *kept}, d.emptyBut(d.nics)
	}
	return edit{d.nics.start, d.nics.end, *kept}, true
}

// forget writes what is left of our metadata; nothing, and no empty <metadata>,
// when nothing is.
func (d *document) forget(dom Domain, rest []NIC) edit {
	if len(rest) == 0 && len(dom.Labels) == 0 {
		if d.emptyBut(d.nics) {
			return without(d.text, d.metadata)
		}
		return without(d.text, d.nics)
	}
	x := nicsXML{nics: rest, labels: dom.Labels, prefix: ourPrefix, lead: lead(d.text, d.nics.start)}
	if imported(rest) {
		x.was = d.nics.kept()
	}
	return edit{d.nics.start, d.nics.end, x.String()}
}
