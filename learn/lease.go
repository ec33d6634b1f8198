package learn

import (
	"net/netip"
	"time"
)

// leasesMost is how many leases a guest is taken to have.
const leasesMost = 64

// lease is an address that a DHCP server gave.
type lease struct {
	until  time.Time // zero: it does not end
	client string    // whom of the guest's clients; "" is not known
}

// leases is those of one guest.
type leases map[netip.Addr]lease

// next is when the first one ends, zero when none does.
func (l leases) next() time.Time {
	var first time.Time
	for _, one := range l {
		first = sooner(first, one.until)
	}
	return first
}

// first is the one that ends first.
func (l leases) first() (ip netip.Addr) {
	first := l.next()
	for at, one := range l {
		if !ip.IsValid() || one.until.Equal(first) {
			ip = at
		}
	}
	return ip
}

// lease notes a lease, or a renewed one.
func (g *guest) lease(ip netip.Addr, l lease, now time.Time) {
	for _, known := g.leases[ip]; !known && len(g.leases) >= leasesMost; {
		g.gone(g.leases.first(), ByLease, "more leases than are followed", now)
	}
	g.leases[ip] = l
}

// leased is a lease that the guest was given. A client has one address at a time
// (RFC 2131 2.1: a binding is found by the client's identifier): with another one,
// the former is free, and somebody else's next.
func (g *guest) leased(ip netip.Addr, l lease, now time.Time) {
	for former, had := range g.leases {
		if former != ip && had.client == l.client && had.client != "" {
			g.gone(former, ByLease, "its client has leased "+ip.String()+" instead", now)
		}
	}
	g.lease(ip, l, now)
	g.tell(Event{IP: ip, How: ByLease, Until: l.until}, now)
}

// endLeases tells of those that have ended.
func (g *guest) endLeases(now time.Time) {
	for ip, l := range g.leases {
		if !l.until.IsZero() && !l.until.After(now) {
			g.gone(ip, ByLease, "its lease has ended", now)
		}
	}
}
