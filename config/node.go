package config

import (
	"slices"
	"strconv"
	"strings"
)

// shape is what a node is.
type shape int

const (
	nothing shape = iota // null, or no value at all
	text
	number
	truth
	list
	mapping
	broken // it was reported already; nobody looks at it again
)

func (s shape) String() string {
	return [...]string{"nothing", "text", "a number", "true or false", "a list", "a mapping", "broken"}[s]
}

// node is a value with its place; the YAML library is not seen beyond it.
type node struct {
	shape   shape
	at      place
	key     place // of the key it is the value of; at for an item of a list
	text    string
	quoted  bool
	entries []entry
	items   []*node
}

type entry struct {
	name  string
	at    place
	value *node
}

// written is a scalar as the operator wrote it.
func (n *node) written() string {
	if n.quoted {
		return strconv.Quote(n.text)
	}
	return n.text
}

// find is the place of the value at a path such as "ports[1].prio" beneath n; of
// what is not written, the place of what it is missing in; of an item of a list,
// its name. One item may stand for a list, and a name for a mapping.
func (n *node) find(path string) place {
	if strings.HasSuffix(path, "]") {
		path += ".name"
	}
	at := n.at
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if n = n.beneath(name); n == nil {
			break
		}
		at = n.at
	}
	return at
}

func (n *node) beneath(name string) *node {
	if index, err := strconv.Atoi(name); err == nil {
		switch {
		case n.shape != list:
			return n
		case index >= len(n.items):
			return nil
		}
		return n.items[index]
	}
	if n.shape == text && name == "name" {
		return n
	}
	i := slices.IndexFunc(n.entries, func(e entry) bool { return e.name == name })
	if i < 0 {
		return nil
	}
	return n.entries[i].value
}
