package domxml

import (
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Changed is an interface of a definition that Import or Revert has looked at.
type Changed struct {
	Was     Interface // of type direct, bridge or network
	Now     Element   // of ours; the zero Element when Import left the interface alone
	Problem string    // why nothing was changed, "" when it was
}

// Import makes the interfaces of type direct and bridge of an inactive domain
// ours: same MAC, PCI address, boot order, model, driver, MTU and link. choose says
// where one goes; of what it gives, MAC, Addr and LinkDown do not count, and ID,
// Target, Queues and MTU count when they are set. What cannot be kept stays as it
// is, with its Problem. Every byte outside of the interfaces and of our metadata
// stays too, and Revert finds the old elements in that.
func Import(text string, choose func(Interface) (Element, error)) (string, []Changed, error) {
	doc, err := read(text)
	if err != nil {
		return "", nil, err
	}
	dom, err := doc.domain()
	if err != nil {
		return "", nil, err
	}
	im := importer{document: doc, dom: dom, nics: dom.NICs}
	for k, i := range dom.Interfaces {
		switch i.Type {
		case "direct", "bridge":
			im.changed = append(im.changed, im.one(doc.interfaces[k], i, choose))
		case "network":
			im.changed = append(im.changed, Changed{Was: i, Problem: "its type is network, and libvirt's network can be anything: give it the type direct or bridge first"})
		}
	}
	if len(im.edits) == 0 {
		return text, im.changed, nil
	}
	out := splice(text, append(im.edits, doc.ask(dom, im.nics)))
	if _, err := Parse(out); err != nil {
		return "", nil, err
	}
	return out, im.changed, nil
}

// importer is an Import under way.
type importer struct {
	*document
	dom     Domain
	nics    []NIC // of the metadata
	edits   []edit
	changed []Changed
}

func (im *importer) one(e *element, i Interface, choose func(Interface) (Element, error)) Changed {
	problem := inTheWay(e)
	if problem == "" {
		problem = im.unfit(i)
	}
	if problem != "" {
		return Changed{Was: i, Problem: problem}
	}
	to, err := choose(i)
	if err != nil {
		return Changed{Was: i, Problem: err.Error()}
	}
	to = im.filled(to, i)
	to.Was = im.text[e.start:e.end]
	if problem := im.refused(to); problem != "" {
		return Changed{Was: i, Problem: problem}
	}
	im.nics = withNIC(im.nics, to.NIC)
	im.edits = append(im.edits, edit{e.start, e.end, im.rewritten(e, to)})
	return Changed{Was: i, Now: to}
}

// unfit says why metadata cannot name the interface.
func (im *importer) unfit(i Interface) string {
	if i.MAC == "" {
		return "it has no <mac>, by which metadata names a NIC"
	}
	if mac, err := vmnetd.ParseMAC(i.MAC); err != nil || mac.String() != i.MAC {
		return "MAC " + vmnetd.Printable(i.MAC) + " is not one that a NIC of ours can have"
	}
	same := 0
	for _, other := range im.dom.Interfaces {
		if other.MAC == i.MAC {
			same++
		}
	}
	if same > 1 {
		return "another interface has MAC " + i.MAC + " too, by which metadata names a NIC"
	}
	return ""
}

// filled is to with what stays as it was.
func (im *importer) filled(to Element, i Interface) Element {
	to.MAC, to.Addr, to.LinkDown = i.MAC, i.Addr, i.LinkDown
	if to.ID == "" {
		to.ID = im.freeID(i)
	}
	if to.Target == "" {
		to.Target = vmnetd.Ifname(im.dom.Name, to.ID)
	}
	// Only a virtio NIC has more queues than one.
	if to.Queues == 0 || !strings.HasPrefix(i.Model, "virtio") {
		to.Queues = i.Queues
	}
	if to.MTU == 0 {
		to.MTU = i.MTU
	}
	return to
}

// freeID is the id that metadata gives the MAC, or the first netN that is free.
func (im *importer) freeID(i Interface) string {
	for _, n := range im.nics {
		if n.MAC == i.MAC && n.ID != "" {
			return n.ID
		}
	}
	for n := 0; ; n++ {
		if id := netN(n); im.holder(id, i.MAC) == "" {
			return id
		}
	}
}

// holder is the MAC of another NIC of that id, "" when there is none.
func (im *importer) holder(id, mac string) string {
	for _, n := range im.nics {
		if n.ID == id && n.MAC != mac {
			return n.MAC
		}
	}
	for _, i := range im.dom.Interfaces {
		if i.Ours() && i.MAC != mac && im.dom.NICOf(i).ID == id {
			return i.MAC
		}
	}
	return ""
}

// refused says what of the choice would not be read again.
func (im *importer) refused(to Element) string {
	if err := vmnetd.CheckID(to.ID); err != nil {
		return err.Error()
	}
	if mac := im.holder(to.ID, to.MAC); mac != "" {
		return "the id " + to.ID + " is that of the NIC with MAC " + mac
	}
	if _, err := vmnetd.ParseMode(to.Mode); to.Mode != "" && err != nil {
		return err.Error()
	}
	if !strings.HasPrefix(to.Target, vmnetd.IfnamePrefix) || len(to.Target) > vmnetd.MaxIfname {
		return "the device's name " + vmnetd.Printable(to.Target) + " does not begin with " + vmnetd.IfnamePrefix + ", or is too long"
	}
	taken := func(i Interface) bool { return i.Target == to.Target && i.MAC != to.MAC }
	if slices.ContainsFunc(im.dom.Interfaces, taken) || slices.ContainsFunc(im.changed, func(c Changed) bool { return c.Now.Target == to.Target }) {
		return "another interface has the device " + to.Target
	}
	return ""
}
