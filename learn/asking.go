package learn

import (
	"net/netip"
	"time"
)

// askingFor is how long an answer is one: a probe waits for two seconds at most
// (RFC 5227 1.1, PROBE_MAX and ANNOUNCE_WAIT), DAD for one (RFC 4861 10,
// RETRANS_TIMER).
const askingFor = 2 * time.Second

// askingMost is how many addresses a guest is taken to ask about at a time.
const askingMost = 16

// asking is the addresses that a guest asks about.
type asking map[netip.Addr]question

type question struct {
	how How
	at  time.Time
}

func (a asking) add(ip netip.Addr, how How, now time.Time) {
	if _, known := a[ip]; !known && len(a) == askingMost {
		delete(a, a.oldest())
	}
	a[ip] = question{how: how, at: now}
}

// about says how the guest has just asked for an address, if it has.
func (a asking) about(ip netip.Addr, now time.Time) (How, bool) {
	q, asked := a[ip]
	return q.how, asked && now.Sub(q.at) <= askingFor
}

func (a asking) oldest() (oldest netip.Addr) {
	var at time.Time
	for ip, q := range a {
		if at.IsZero() || q.at.Before(at) {
			oldest, at = ip, q.at
		}
	}
	return oldest
}
