package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// codec takes a node apart into a V and knows which keys stand under it.
type codec[V any] interface {
	decode(p *problems, n *node, into *V)
	paths(under string, visit func(path string, later bool))
}

// got is a value with where it was written. Given is false when it was not
// there, or was wrong and reported.
type got[T any] struct {
	V       T
	Given   bool
	At      place  // of the value
	Key     place  // of its key
	Written string // a scalar as the operator wrote it, with its quotes; without them when it is wrong
}

// spot is embedded in what an object decodes into: where the mapping begins and
// what was wrong in it.
type spot struct {
	at       place
	node     *node    // the mapping, for mistakes that are told by the path of a key
	unusable bool     // it is no mapping; reported
	mistakes bool     // something in it was reported
	unknown  bool     // a key of it is unknown: that may be the one that is missing
	later    []string // keys of a later version
}

func (s *spot) stands() *spot { return s }

// there says that the mapping is written.
func (s *spot) there() bool { return s.at.file != nil }

// object is a mapping with known keys.
type object[T any] struct {
	what string // "an uplink": for messages
	rows []row[T]
}

// row is one key of a mapping.
type row[T any] struct {
	name  string
	later bool   // the contract has it, this version does not
	never string // why this key is not taken here although it is elsewhere
	read  func(p *problems, n *node, into *T)
	under func(path string, visit func(string, bool))
}

// key makes the row of a key whose value goes into a field.
func key[T, V any](name string, field func(*T) *V, c codec[V]) row[T] {
	return row[T]{
		name:  name,
		read:  func(p *problems, n *node, into *T) { c.decode(p, n, field(into)) },
		under: c.paths,
	}
}

// later makes the rows of keys that a later version brings.
func later[T any](names ...string) []row[T] {
	rows := make([]row[T], len(names))
	for i, name := range names {
		rows[i] = row[T]{name: name, later: true}
	}
	return rows
}

func (o object[T]) decode(p *problems, n *node, into *T) {
	s := &spot{}
	if own, ok := any(into).(interface{ stands() *spot }); ok {
		s = own.stands()
	}
	s.at, s.node = n.at, n
	before := len(p.list)
	switch n.shape {
	case mapping:
		o.entries(p, n, into, s)
	case nothing: // `nic:` with nothing after it is `nic: {}`
	case broken:
		s.unusable = true
	default:
		p.add(n.at, "%s must be a mapping, not %s", o.what, n.shape).do("keys here are %s", o.names())
		s.unusable = true
	}
	s.mistakes = s.unusable || len(p.list) > before
}

func (o object[T]) entries(p *problems, n *node, into *T, s *spot) {
	for _, e := range n.entries {
		i := slices.IndexFunc(o.rows, func(r row[T]) bool { return r.name == e.name })
		switch {
		case i < 0:
			o.unknown(p, e)
			s.unknown = true
		case o.rows[i].never != "":
			p.add(e.at, "%s", o.rows[i].never)
		case o.rows[i].later:
			p.add(e.at, "%s in %s: not in this version", e.name, o.what).do("leave it out; keys here are %s", o.names())
			s.later = append(s.later, e.name)
		default:
			o.rows[i].read(p, e.value, into)
		}
	}
}

func (o object[T]) unknown(p *problems, e entry) {
	p.add(e.at, "unknown key %q in %s%s", e.name, o.what, didYouMean(e.name, o.known())).do("keys here are %s", o.names())
}

func (o object[T]) known() []string {
	var names []string
	for _, r := range o.rows {
		if !r.later && r.never == "" {
			names = append(names, r.name)
		}
	}
	return names
}

func (o object[T]) names() string { return strings.Join(o.known(), ", ") }

func (o object[T]) paths(under string, visit func(string, bool)) {
	for _, r := range o.rows {
		path := strings.TrimPrefix(under+"."+r.name, ".")
		switch {
		case r.never != "":
		case r.later:
			visit(path, true)
		default:
			visit(path, false)
			r.under(path, visit)
		}
	}
}

// scalar is a leaf: text with a meaning.
type scalar[V any] struct {
	shapes []shape // which of them are taken
	want   string  // "a number from 68 to 65535": for messages
	hint   string  // what to do about another shape, "" for nothing
	read   func(string) (V, error)
}

func (s scalar[V]) decode(p *problems, n *node, into *got[V]) {
	into.At, into.Key = n.at, n.key
	switch {
	case n.shape == broken:
		return
	case !slices.Contains(s.shapes, n.shape):
		s.wrongShape(p, n)
		return
	case hasControl(n.text):
		p.add(n.at, "a line end or control character in a value")
		return
	}
	v, err := s.read(n.text)
	if err != nil {
		p.addErr(n.at, err)
		into.Written = n.text
		return
	}
	into.V, into.Given, into.Written = v, true, n.written()
}

func (s scalar[V]) wrongShape(p *problems, n *node) {
	m := p.add(n.at, "this must be %s, not %s", s.want, n.shape)
	switch {
	case s.hint != "":
		m.next = s.hint
	case slices.Contains(s.shapes, text) && (n.shape == number || n.shape == truth):
		m.do("write it in quotes: %q", n.text)
	case slices.Contains(s.shapes, number) && n.quoted:
		m.do("write it without quotes")
	}
}

func (s scalar[V]) paths(string, func(string, bool)) {}

// listOf is a list of one kind of item.
type listOf[V any] struct {
	item  codec[V]
	what  string // "a list of networks"
	empty bool   // [] means something
	orOne bool   // a single item may stand without brackets
}

func (l listOf[V]) decode(p *problems, n *node, into *got[[]V]) {
	into.At, into.Key = n.at, n.key
	items := n.items
	switch {
	case n.shape == broken:
		return
	case n.shape != list && l.orOne && n.shape != nothing:
		items = []*node{n}
	case n.shape != list:
		p.add(n.at, "this must be %s, not %s", l.what, n.shape).do("write [a, b] or a line with '- ' for each")
		return
	case len(items) == 0 && !l.empty:
		p.add(n.at, "an empty list").do("leave the key out, or put something into the list")
		return
	}
	into.Given = true
	into.V = make([]V, len(items))
	for i, item := range items {
		if item.shape == nothing {
			p.add(item.at, "an empty entry").do("leave out the '-', or write the entry")
			item.shape = broken
		}
		l.item.decode(p, item, &into.V[i])
	}
}

func (l listOf[V]) paths(under string, visit func(string, bool)) { l.item.paths(under+"[]", visit) }

// section is a top-level list: with nothing after its key it is empty.
type section[V any] struct{ listOf[V] }

func (s section[V]) decode(p *problems, n *node, into *got[[]V]) {
	if n.shape == nothing {
		return
	}
	s.empty = true
	s.listOf.decode(p, n, into)
}

// textMap is a mapping of text to text.
type textMap struct{ what string }

func (t textMap) decode(p *problems, n *node, into *got[map[string]got[string]]) {
	into.At, into.Key = n.at, n.key
	switch {
	case n.shape == broken:
		return
	case n.shape != mapping:
		p.add(n.at, "this must be %s, not %s", t.what, n.shape).do("write {key: value}")
		return
	case len(n.entries) == 0:
		p.add(n.at, "an empty mapping").do("leave the key out")
		return
	}
	into.Given, into.V = true, map[string]got[string]{}
	for _, e := range n.entries {
		var v got[string]
		plainText.decode(p, e.value, &v)
		if hasControl(e.name) {
			p.add(e.at, "a line end or control character in a key")
			continue
		}
		into.V[e.name] = v
	}
}

func (t textMap) paths(string, func(string, bool)) {}

// values takes what was given and right out of a list.
func values[T any](items []got[T]) []T {
	out := make([]T, 0, len(items))
	for _, i := range items {
		if i.Given {
			out = append(out, i.V)
		}
	}
	return out
}

// twice reports items that stand in a list twice.
func twice[T comparable](p *problems, items []got[T]) {
	seen := map[T]bool{}
	for _, i := range items {
		if i.Given && seen[i.V] {
			p.add(i.At, "%s is in this list twice", quoted(i.V))
		}
		seen[i.V] = true
	}
}

func quoted(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) }

// declared remembers names and where they were declared.
type declared map[string]place

// reserve notes a name that is wrong, and reported: who refers to it is not.
func (d declared) reserve(name string, at place) {
	if name != "" && !d.has(name) {
		d[name] = at
	}
}

// add notes a name; false, and reported, when it is there already.
func (d declared) add(p *problems, what, name string, at place) bool {
	if first, there := d[name]; there {
		p.add(at, "%s %q is declared twice, first at %s", what, name, first).do("rename or remove one of them")
		return false
	}
	d[name] = at
	return true
}

func (d declared) has(name string) bool {
	_, ok := d[name]
	return ok
}

func (d declared) names() []string {
	names := make([]string, 0, len(d))
	for n := range d {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// checked makes a scalar's reader of a check that only says yes or no.
func checked(check func(string) error) func(string) (string, error) {
	return func(s string) (string, error) { return s, check(s) }
}

// invalid is a mistake in a value.
func invalid(format string, args ...any) *vmnetd.Error {
	return vmnetd.Errorf(vmnetd.ErrInvalid, format, args...)
}
