package uplink

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func routeText(r rtnl.Route) string {
	to := r.To.String()
	if r.To.Bits() == 0 {
		to = "the default route"
	}
	if r.Via.IsValid() {
		return to + " via " + r.Via.String()
	}
	return to
}

// moveAddresses gives what the host has on devices that become ports to the
// topmost device over them. What DHCP or a router gave stays where it was asked
// for. A device that is a port already keeps what it has.
func moveAddresses(is, want World) {
	for _, name := range want.names() {
		d := want[name]
		top := want.top(name)
		if d.Absent || top == name || is.there(name) && is[name].Master != "" {
			continue
		}
		over := want[top]
		d.Addrs, over.Addrs = split(d.Addrs, over.Addrs, func(a rtnl.Addr) bool { return a.Dynamic })
		d.Routes, over.Routes = split(d.Routes, over.Routes, func(r rtnl.Route) bool { return r.Dynamic })
		want[name], want[top] = d, over
	}
}

// left is what is good to know of addresses that are not moved.
func left(is, want World) []string {
	var mind []string
	for _, name := range want.names() {
		top := want.top(name)
		if top == name || is[name].Master != "" {
			continue
		}
		for _, a := range is[name].Addrs {
			if a.Dynamic {
				mind = append(mind, fmt.Sprintf("%s on %s was given by DHCP or a router and is not moved: it must be asked for on %s", a.Prefix, name, top))
			}
		}
	}
	return mind
}

// split leaves what stays in from and adds the rest to to, unless it is there.
func split[T comparable](from, to []T, stays func(T) bool) (rest, more []T) {
	more = slices.Clone(to)
	for _, v := range from {
		switch {
		case stays(v):
			rest = append(rest, v)
		case !slices.Contains(more, v):
			more = append(more, v)
		}
	}
	return rest, more
}

// top is the topmost device whose port it is, port of port; itself when it is
// nobody's.
func (w World) top(name string) string {
	for range len(w) { // a loop is refused elsewhere
		d, ok := w[name]
		if !ok || d.Master == "" || !w.there(d.Master) {
			return name
		}
		name = d.Master
	}
	return name
}

// move is one line of a plan: what the host has that goes from one device to
// another.
type move struct {
	from, to string
	what     []string
}

func (m move) text() string {
	verb := "moves"
	if len(m.what) > 1 {
		verb = "move"
	}
	return fmt.Sprintf("%s %s from %s to %s", and(m.what), verb, m.from, m.to)
}

// moves is what the host has on a device now and gets on another one.
func moves(is, want World) []move {
	var out []move
	for _, from := range is.names() {
		for _, to := range want.names() {
			if from == to {
				continue
			}
			m := move{from: from, to: to}
			for _, a := range is[from].Addrs {
				if moved(a, want[from].Addrs, is[to].Addrs, want[to].Addrs) {
					m.what = append(m.what, a.Prefix.String())
				}
			}
			for _, r := range is[from].Routes {
				if moved(r, want[from].Routes, is[to].Routes, want[to].Routes) {
					m.what = append(m.what, routeText(r))
				}
			}
			if m.what != nil {
				out = append(out, m)
			}
		}
	}
	return out
}

func moved[T comparable](v T, stays, there, comes []T) bool {
	return !slices.Contains(stays, v) && !slices.Contains(there, v) && slices.Contains(comes, v)
}

// and joins words as people do: "a, b and c".
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// addresses reads what the host has on devices.
func (k *kernel) addresses(ctx context.Context, w World) error {
	for name, d := range w {
		var err error
		if d.Addrs, err = k.conn.AddrsOf(ctx, d.Index); err != nil {
			return err
		}
		if d.Routes, err = k.conn.RoutesOf(ctx, d.Index); err != nil {
			return err
		}
		w[name] = d
	}
	return nil
}

func (k *kernel) addAddr(ctx context.Context, l rtnl.Link, s Step) error {
	return k.conn.AddAddr(ctx, l.Index, *s.Addr)
}

func (k *kernel) delAddr(ctx context.Context, l rtnl.Link, s Step) error {
	return k.conn.DelAddr(ctx, l.Index, *s.Addr)
}

func (k *kernel) addRoute(ctx context.Context, l rtnl.Link, s Step) error {
	return k.conn.AddRoute(ctx, l.Index, *s.Route)
}

func (k *kernel) delRoute(ctx context.Context, l rtnl.Link, s Step) error {
	return k.conn.DelRoute(ctx, l.Index, *s.Route)
}
