package domxml

import (
	"encoding/xml" //nolint:depguard // its tokens and their offsets only; it writes nothing here
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/vmnetd/vmnetd"
)

// The limits of what is read. A domain of libvirt's own making has some 10 kB,
// is 8 deep, and its elements have 10 attributes at the most.
const (
	maxBytes = 4 << 20
	maxDepth = 64
	maxAttrs = 64
	maxKept  = 1 << 16 // elements of interfaces and of our metadata
	maxEach  = 1024    // interfaces, NICs, labels
	maxWords = 300     // bytes of an error's text
)

// place is where something stands, counted from 1; the column is in bytes.
type place struct{ line, col int }

// wrong is err, which the text at p is to blame for.
func (p place) wrong(err error) *vmnetd.Error {
	text := vmnetd.Printable(err.Error())
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return vmnetd.Errorf(vmnetd.ErrInvalid, "domain XML %d:%d: %s", p.line, p.col, text).WithNext(vmnetd.NextOf(err))
}

func (p place) wrongf(format string, args ...any) *vmnetd.Error {
	return p.wrong(fmt.Errorf(format, args...))
}

// reader gives the tokens of a text within the limits.
type reader struct {
	text  string
	dec   *xml.Decoder
	depth int
	kept  int

	// Of the token that next gave last: where it stands and the offset of its
	// first byte.
	at   place
	from int
}

func newReader(text string) (*reader, error) {
	if len(text) > maxBytes {
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "domain XML has %d bytes, more than %d", len(text), maxBytes)
	}
	if bad := badChar(text); bad >= 0 {
		before := text[:bad]
		at := place{1 + strings.Count(before, "\n"), bad - strings.LastIndexByte(before, '\n')}
		return nil, at.wrongf("this is not UTF-8, or not a character of XML")
	}
	return &reader{text: text, dec: xml.NewDecoder(strings.NewReader(text))}, nil
}

// badChar is the offset of the first byte that is not part of a character of
// XML 1.0 in UTF-8, -1 when all are. The decoder looks only at some.
func badChar(text string) int {
	for i, c := range text {
		switch {
		case c == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return i
			}
		case c < 0x20 && c != '\t' && c != '\n' && c != '\r', c == 0xfffe, c == 0xffff:
			return i
		}
	}
	return -1
}

// offset is where the next token begins.
func (r *reader) offset() int { return int(r.dec.InputOffset()) }

// next is the next start, end or text; io.EOF after the root element.
func (r *reader) next() (xml.Token, error) {
	for {
		r.from = r.offset()
		r.at.line, r.at.col = r.dec.InputPos()
		token, err := r.dec.Token()
		if err != nil {
			return nil, r.failed(err)
		}
		switch t := token.(type) {
		case xml.Comment:
		case xml.Directive:
			return nil, r.at.wrongf("a domain has no DOCTYPE and no declarations")
		case xml.ProcInst:
			if t.Target == "xml" && r.from > 0 {
				return nil, r.at.wrongf("the XML declaration is not at the beginning")
			}
		case xml.StartElement:
			r.depth++
			return token, r.check(t)
		case xml.EndElement:
			r.depth--
			return token, nil
		default:
			return token, nil
		}
	}
}

func (r *reader) failed(err error) error {
	var syntax *xml.SyntaxError
	switch line, col := r.dec.InputPos(); {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.As(err, &syntax):
		return place{line, col}.wrongf("%s", syntax.Msg)
	default:
		return place{line, col}.wrong(err)
	}
}

// check refuses what the decoder takes and XML or a limit forbids.
func (r *reader) check(t xml.StartElement) error {
	if r.depth > maxDepth {
		return r.at.wrongf("elements are nested more than %d deep", maxDepth)
	}
	if len(t.Attr) > maxAttrs {
		return r.at.wrongf("<%s> has more than %d attributes", t.Name.Local, maxAttrs)
	}
	for i, a := range t.Attr {
		if a.Name.Space == "xmlns" && a.Value == "" {
			return r.at.wrongf("the prefix %s stands for no namespace", a.Name.Local)
		}
		for _, b := range t.Attr[:i] {
			if a.Name == b.Name {
				return r.at.wrongf("<%s> has the attribute %s twice", t.Name.Local, a.Name.Local)
			}
		}
	}
	return nil
}

// root goes to the root element, past what may stand before it.
func (r *reader) root() (xml.StartElement, error) {
	for {
		token, err := r.next()
		if errors.Is(err, io.EOF) {
			return xml.StartElement{}, r.at.wrongf("there is no element")
		}
		if err != nil {
			return xml.StartElement{}, err
		}
		if start, ok := token.(xml.StartElement); ok {
			return start, nil
		}
		if err := r.blank(token); err != nil {
			return xml.StartElement{}, err
		}
	}
}

// finish makes sure that nothing stands after the root element.
func (r *reader) finish() error {
	for {
		token, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.blank(token)
		}
		if err != nil {
			return err
		}
	}
}

// blank refuses all but white space, for what is outside of the root element.
func (r *reader) blank(token xml.Token) error {
	if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) == "" {
		return nil
	}
	return r.at.wrongf("there is something outside of the root element")
}

// children has kid read each child of the element whose start was read last,
// and text given its character data. It returns behind the element's end, of
// which r.from is the first byte.
func (r *reader) children(kid func(xml.StartElement) error, text func(xml.CharData)) error {
	for {
		token, err := r.next()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if err := kid(t); err != nil {
				return err
			}
		case xml.CharData:
			if text != nil {
				text(t)
			}
		case xml.EndElement:
			return nil
		}
	}
}

// skip reads to behind the end of the element whose start was read last.
func (r *reader) skip() error {
	for level := r.depth; r.depth >= level; {
		if _, err := r.next(); err != nil {
			return err
		}
	}
	return nil
}
