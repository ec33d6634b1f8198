package domxml

import (
	"encoding/xml" //nolint:depguard // the type of a name
	"strings"
)

// element is an element that was kept whole, with the offsets of its bytes.
type element struct {
	name  xml.Name
	attrs []xml.Attr
	text  string // what stands directly in it
	kids  []*element
	at    place

	start int // of its first byte
	inner int // behind its start tag
	close int // before its end tag; that of <a/> is empty
	end   int // behind it
}

// keep reads the element whose start was read last.
func (r *reader) keep(start xml.StartElement) (*element, error) {
	if r.kept++; r.kept > maxKept {
		return nil, r.at.wrongf("interfaces and metadata have more than %d elements", maxKept)
	}
	e := r.begun(start)
	var text strings.Builder
	err := r.children(func(s xml.StartElement) error {
		kid, err := r.keep(s)
		e.kids = append(e.kids, kid)
		return err
	}, func(c xml.CharData) { text.Write(c) })
	e.text = text.String()
	e.close, e.end = r.from, r.offset()
	return e, err
}

// begun is an element of which only the start was read.
func (r *reader) begun(start xml.StartElement) *element {
	return &element{name: start.Name, attrs: start.Attr, at: r.at, start: r.from, inner: r.offset()}
}

// attr is an attribute of no namespace, "" when it is not there.
func (e *element) attr(name string) string {
	if e == nil {
		return ""
	}
	for _, a := range e.attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// kid is the first child of that name and no namespace, nil when there is none.
func (e *element) kid(name string) *element {
	for _, k := range e.kids {
		if k.name.Space == "" && k.name.Local == name {
			return k
		}
	}
	return nil
}

// fragment reads a text that is one element and nothing else.
func fragment(text string) (*element, error) {
	r, err := newReader(text)
	if err != nil {
		return nil, err
	}
	start, err := r.root()
	if err != nil {
		return nil, err
	}
	e, err := r.keep(start)
	if err != nil {
		return nil, err
	}
	if e.start != 0 || e.end != len(text) {
		return nil, e.at.wrongf("<%s> does not stand alone", e.name.Local)
	}
	return e, nil
}
