package config

import "slices"

// named is a mapping that may also be written as its name alone: eno3 for
// {name: eno3}.
type named[T any] struct {
	object[T]
	alone scalar[string]
	name  func(*T) *got[string]
}

func (c named[T]) decode(p *problems, n *node, into *T) {
	if !slices.Contains([]shape{text, number, truth}, n.shape) {
		c.object.decode(p, n, into)
		return
	}
	before := len(p.list)
	c.alone.decode(p, n, c.name(into))
	if own, ok := any(into).(interface{ stands() *spot }); ok {
		*own.stands() = spot{at: n.at, node: n, mistakes: len(p.list) > before}
	}
}

// port is a port of a bond or team as far as they are alike.
type port struct {
	spot
	name got[string]
}

// port notes a port as what a master stands on.
func (b *builder) port(p *port, on *standing) {
	if p.unusable {
		return
	}
	if !p.name.Given {
		b.missing(p.name.At, p.spot, "this port has no name", "add  name: DEVICE, or the name of an uplink")
		return
	}
	on.under = append(on.under, ref{name: p.name.V, at: p.name.At})
}

// refs are names of what an uplink stands on.
func refs(names []got[string]) []ref {
	var all []ref
	for _, n := range names {
		if n.Given {
			all = append(all, ref{name: n.V, at: n.At})
		}
	}
	return all
}
