package hypervisor

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// interfaceSpan is the text of a domain's interface as libvirt wrote it: what
// libvirt is asked to change must be the same in everything else
// (qemu_hotplug.c, qemuDomainChangeNet).
func interfaceSpan(domain, target string) (string, error) {
	dec := xml.NewDecoder(strings.NewReader(domain))
	depth, begin, ours, parent := 0, int64(0), false, ""
	for {
		at := dec.InputOffset()
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return "", vmnetd.Errorf(vmnetd.ErrNotFound, "no interface has the device %s", target)
		}
		if err != nil {
			return "", fmt.Errorf("cannot read the domain's XML: %w", err)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			switch {
			case depth == 1:
				parent = e.Name.Local
			case depth == 2 && e.Name.Local == "interface":
				begin, ours = at, false
			}
			ours = ours || depth == 3 && e.Name.Local == "target" && attrOf(e, "dev") == target
			depth++
		case xml.EndElement:
			depth--
			if depth == 2 && parent == "devices" && ours {
				return domain[begin:dec.InputOffset()], nil
			}
		}
	}
}

func attrOf(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// withLink is an interface's text with another state of its link.
func withLink(domain, target string, up bool) (string, error) {
	text, err := interfaceSpan(domain, target)
	if err != nil {
		return "", err
	}
	dec := xml.NewDecoder(strings.NewReader(text))
	for depth := 0; ; {
		at := dec.InputOffset()
		tok, err := dec.Token()
		if err != nil {
			break
		}
		switch e := tok.(type) {
		case xml.StartElement:
			if depth == 1 && e.Name.Local == "link" {
				if err := dec.Skip(); err != nil {
					return "", err
				}
				text = text[:at] + text[dec.InputOffset():]
				return setLinkState(text, up), nil
			}
			depth++
		case xml.EndElement:
			depth--
		}
	}
	return setLinkState(text, up), nil
}

func setLinkState(text string, up bool) string {
	state := map[bool]string{true: "up", false: "down"}[up]
	return strings.TrimSuffix(text, "</interface>") + "<link state='" + state + "'/></interface>"
}
