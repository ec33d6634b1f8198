package reachability

import (
	"fmt"
	"net/netip"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// path is one way from somebody to somebody.
type path struct {
	column string
	what   string
	try    func(stop <-chan struct{}) bool // until it comes, or stop is closed
	came   bool
}

// Columns of the table.
const (
	outside4       = "outside 4"
	outside6       = "outside 6"
	slaac          = "SLAAC"
	guest4         = "guest 4"
	guest6         = "guest 6"
	host4          = "host 4"
	host6          = "host 6"
	broadcastOut   = "broadcast out"
	multicastOut   = "multicast out"
	broadcastGuest = "broadcast guest"
	multicastGuest = "multicast guest"
)

// paths is all that is to be tried in a row; everybody listens already.
func (r *Row) paths(t testkit.TB, ears map[*Node]*ear) []*path {
	var all []*path
	for i, g := range r.Guests {
		all = append(all, r.withOutside(t, ears, g)...)
		all = append(all, both(g, r.Host, host4, host6)...)
		for _, other := range r.Guests[i+1:] {
			all = append(all, both(g, other, guest4, guest6)...)
			all = append(all, groups(ears, g, other, broadcastGuest, multicastGuest)...)
		}
	}
	return all
}

func (r *Row) withOutside(t testkit.TB, ears map[*Node]*ear, g *Node) []*path {
	index := g.index(t)
	all := append(both(g, r.Outside, outside4, outside6), groups(ears, g, r.Outside, broadcastOut, multicastOut)...)
	return append(all, &path{
		column: slaac, what: g.Name + " by an address of its own making with the outside",
		try: func(stop <-chan struct{}) bool {
			own, ok := g.autoconfigured(index, r.Prefix(), stop)
			return ok && g.echo(own, r.Outside.IP6, stop) && r.Outside.echo(netip.Addr{}, own, stop)
		},
	})
}

// both is the echoes between two, each the one who asks.
func both(a, b *Node, column4, column6 string) []*path {
	one := func(column string, from, to *Node, address netip.Addr) *path {
		return &path{
			column: column, what: fmt.Sprintf("%s asks %s", from.Name, to.Name),
			try: func(stop <-chan struct{}) bool { return from.echo(netip.Addr{}, address, stop) },
		}
	}
	return []*path{one(column4, a, b, b.IP4), one(column4, b, a, a.IP4), one(column6, a, b, b.IP6), one(column6, b, a, a.IP6)}
}

// groups is what two hear of each other by broadcast and multicast.
func groups(ears map[*Node]*ear, a, b *Node, broadcasts, multicasts string) []*path {
	var all []*path
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		from, to := pair[0], pair[1]
		for address, column := range map[netip.Addr]string{broadcast: broadcasts, group4: multicasts, group6: multicasts} {
			all = append(all, &path{
				column: column, what: fmt.Sprintf("%s hears what %s says to %s", to.Name, from.Name, address),
				try: func(stop <-chan struct{}) bool {
					for !ears[to].hears(address, from) {
						if ended(stop) {
							return false
						}
						wait(stop)
					}
					return true
				},
			})
		}
	}
	return all
}
