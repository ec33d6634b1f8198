package domxml

import (
	"encoding/xml" //nolint:depguard // the type of a start tag
)

// document is what is kept of a domain's text.
type document struct {
	text       string
	root       *element
	name       *element
	uuid       *element
	vcpu       *element
	metadata   *element // its children are not kept
	lastMeta   int      // behind its last child; 0: it has none
	nics       *element // our element in it
	interfaces []*element
	head       int // where libvirt would write <metadata>
}

// read reads a domain. Elements that are not asked for are only skipped.
func read(text string) (*document, error) {
	r, err := newReader(text)
	if err != nil {
		return nil, err
	}
	start, err := r.root()
	if err != nil {
		return nil, err
	}
	if start.Name != (xml.Name{Local: "domain"}) {
		return nil, r.at.wrongf("the root element is <%s>, not <domain>", start.Name.Local).
			WithNext("give the XML that `virsh dumpxml --inactive` prints")
	}
	d := &document{text: text, root: r.begun(start)}
	if err := r.children(func(s xml.StartElement) error { return d.child(r, s) }, nil); err != nil {
		return nil, err
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	if d.name == nil {
		return nil, d.root.at.wrongf("the domain has no <name>")
	}
	return d, nil
}

// child reads a child of <domain>. Of several libvirt takes the first, and of
// <devices> all (libvirt src/conf/domain_conf.c, virDomainDefParseXML).
func (d *document) child(r *reader, s xml.StartElement) (err error) {
	var into **element
	switch s.Name {
	case xml.Name{Local: "name"}:
		into = &d.name
	case xml.Name{Local: "uuid"}:
		into = &d.uuid
	case xml.Name{Local: "vcpu"}:
		into = &d.vcpu
	case xml.Name{Local: "metadata"}:
		if d.metadata == nil {
			return d.readMetadata(r, s)
		}
	case xml.Name{Local: "devices"}:
		return r.children(func(s xml.StartElement) error { return d.device(r, s) }, nil)
	}
	if into != nil && *into == nil {
		*into, err = r.keep(s)
	} else {
		err = r.skip()
	}
	if s.Name.Space == "" && beforeMetadata[s.Name.Local] {
		d.head = r.offset()
	}
	return err
}

// beforeMetadata is what libvirt writes before <metadata>.
var beforeMetadata = map[string]bool{"name": true, "uuid": true, "genid": true, "title": true, "description": true}

func (d *document) device(r *reader, s xml.StartElement) error {
	if s.Name != (xml.Name{Local: "interface"}) {
		return r.skip()
	}
	if len(d.interfaces) == maxEach {
		return r.at.wrongf("there are more than %d interfaces", maxEach)
	}
	e, err := r.keep(s)
	d.interfaces = append(d.interfaces, e)
	return err
}

func (d *document) readMetadata(r *reader, s xml.StartElement) error {
	d.metadata = r.begun(s)
	err := r.children(func(s xml.StartElement) error {
		if s.Name != (xml.Name{Space: NS, Local: "nics"}) {
			err := r.skip()
			d.lastMeta = r.offset()
			return err
		}
		if d.nics != nil {
			return r.at.wrongf("a second <nics> in <metadata>")
		}
		var err error
		d.nics, err = r.keep(s)
		d.lastMeta = r.offset()
		return err
	}, nil)
	d.metadata.close, d.metadata.end = r.from, r.offset()
	return err
}
