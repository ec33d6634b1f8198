package domxml

import (
	"fmt"

	"github.com/vmnetd/vmnetd"
)

// InterfaceText is the text of a domain's <interface> that has a device, as libvirt
// wrote it: what libvirt is asked to change must be the same in everything else
// (libvirt src/qemu/qemu_hotplug.c, qemuDomainChangeNet). vmnetd.ErrNotFound: none
// has it.
func InterfaceText(domain, target string) (string, error) {
	e, err := interfaceWith(domain, target)
	if err != nil {
		return "", err
	}
	return domain[e.start:e.end], nil
}

// InterfaceWithLink is InterfaceText with another state of the link.
func InterfaceWithLink(domain, target string, up bool) (string, error) {
	e, err := interfaceWith(domain, target)
	if err != nil {
		return "", err
	}
	state := "down"
	if up {
		state = "up"
	}
	edits := []edit{{start: e.close, end: e.close, text: fmt.Sprintf("<link state='%s'/>", state)}}
	if link := e.kid("link"); link != nil {
		edits = append(edits, edit{start: link.start, end: link.end})
	}
	for i := range edits { // offsets within the interface
		edits[i].start -= e.start
		edits[i].end -= e.start
	}
	return splice(domain[e.start:e.end], edits), nil
}

func interfaceWith(domain, target string) (*element, error) {
	d, err := read(domain)
	if err != nil {
		return nil, err
	}
	for _, e := range d.interfaces {
		if e.kid("target").attr("dev") == target {
			return e, nil
		}
	}
	return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "no interface has the device %s", vmnetd.Printable(target))
}
