package domxml

import (
	"slices"
	"strings"
)

const ourPrefix = "vmnetd"

// ask is the edit that writes our metadata element, with what Revert must know to
// have every byte back: what stood where the edit is, nothing, an empty
// <metadata>, or the element of ours before the first import.
func (d *document) ask(dom Domain, nics []NIC) edit {
	x := nicsXML{nics: nics, labels: dom.Labels, prefix: ourPrefix}
	switch {
	case d.nics != nil:
		was := d.text[d.nics.start:d.nics.end]
		x.was, x.lead = &was, lead(d.text, d.nics.start)
		if imported(dom.NICs) {
			x.was = d.nics.kept()
		}
		return edit{d.nics.start, d.nics.end, x.String()}
	case d.metadata == nil:
		was, out := "", lead(d.text, d.name.start)
		x.was, x.lead = &was, deeper(out)
		return edit{d.head, d.head, out + "<metadata>" + deeper(out) + x.String() + out + "</metadata>"}
	}
	out := lead(d.text, d.metadata.start)
	x.lead = deeper(out)
	if !d.emptyBut(nil) {
		at := max(d.lastMeta, d.metadata.inner)
		return edit{at, at, x.lead + x.String()}
	}
	was := d.text[d.metadata.start:d.metadata.end]
	x.was = &was
	start := strings.TrimRight(d.text[d.metadata.start:d.metadata.inner], "/>")
	return edit{d.metadata.start, d.metadata.end, start + ">" + x.lead + x.String() + out + "</metadata>"}
}

// imported says that an import has left something to revert.
func imported(nics []NIC) bool {
	return slices.ContainsFunc(nics, func(n NIC) bool { return n.Was != "" })
}

// emptyBut says that <metadata> holds nothing but e and white space.
func (d *document) emptyBut(e *element) bool {
	inside := d.text[d.metadata.inner:d.metadata.close]
	if e != nil {
		inside = d.text[d.metadata.inner:e.start] + d.text[e.end:d.metadata.close]
	}
	return strings.Trim(inside, blanks) == ""
}
