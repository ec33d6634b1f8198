package config

import "strconv"

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
