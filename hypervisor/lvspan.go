package hypervisor

import (
	"encoding/xml" //nolint:depguard // says where elements begin and end; bytes are spliced
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// span is where an element stands in a text.
type span struct {
	begin, end int64
	start      xml.StartElement
}

// spans finds the elements of a path.
func spans(text string, path ...string) ([]span, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	var at []string
	var found []span
	for {
		begin := dec.InputOffset()
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the domain's XML: %w", err)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			at = append(at, e.Name.Local)
			if slices.Equal(at, path) {
				found = append(found, span{begin: begin, start: e.Copy()})
			}
		case xml.EndElement:
			if slices.Equal(at, path) {
				found[len(found)-1].end = dec.InputOffset()
			}
			at = at[:len(at)-1]
		}
	}
}

// interfaceSpan is the text of a domain's interface as libvirt wrote it: what
// libvirt is asked to change must be the same in everything else
// (qemu_hotplug.c, qemuDomainChangeNet).
func interfaceSpan(domain, target string) (string, error) {
	all, err := spans(domain, "domain", "devices", "interface")
	if err != nil {
		return "", err
	}
	for _, s := range all {
		text := domain[s.begin:s.end]
		targets, err := spans(text, "interface", "target")
		if err != nil {
			return "", err
		}
		if len(targets) > 0 && attrOf(targets[0].start, "dev") == target {
			return text, nil
		}
	}
	return "", vmnetd.Errorf(vmnetd.ErrNotFound, "no interface has the device %s", target)
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
	links, err := spans(text, "interface", "link")
	if err != nil {
		return "", err
	}
	if len(links) > 0 {
		text = text[:links[0].begin] + text[links[0].end:]
	}
	state := map[bool]string{true: "up", false: "down"}[up]
	return strings.TrimSuffix(text, "</interface>") + "<link state='" + state + "'/></interface>", nil
}
