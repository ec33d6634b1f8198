package learn

import (
	"net/netip"
	"slices"
	"time"
)

// sameFor is how long the same news is no news.
const sameFor = time.Minute

// sameEnd is by how much a lease's end must move to be another one: an answer that
// is heard twice is not a renewal.
const sameEnd = 500 * time.Millisecond

// toldMost is how many news of a guest are remembered.
const toldMost = 128

// EventsPerSecond bounds what one guest can have told.
const EventsPerSecond = 20

// topic is what news are about.
type topic struct {
	ip             netip.Addr
	how            How
	gone, defended bool
}

func topicOf(e Event) topic { return topic{ip: e.IP, how: e.How, gone: e.Gone, defended: e.Defended} }

// said is when something was told, and with which end of the lease.
type said struct{ at, until time.Time }

func (s said) same(e Event) bool {
	if s.until.IsZero() || e.Until.IsZero() {
		return s.until.Equal(e.Until)
	}
	return e.Until.Sub(s.until).Abs() < sameEnd
}

// news is what there is to tell of a guest.
type news struct {
	told    map[topic]said
	waiting []Event // the oldest first
	pace    pace
}

// add takes news in, unless they are none.
func (n *news) add(e Event, now time.Time) {
	t := topicOf(e)
	if s, known := n.told[t]; known && now.Sub(s.at) < sameFor && s.same(e) {
		return
	}
	n.contradict(t)
	if i := slices.IndexFunc(n.waiting, func(w Event) bool { return topicOf(w) == t }); i >= 0 {
		n.waiting[i] = e
		return
	}
	if i := n.least(); len(n.waiting) >= EventsPerSecond && i >= 0 {
		n.waiting = slices.Delete(n.waiting, i, i+1)
	}
	n.waiting = append(n.waiting, e)
}

// contradict drops what is no longer so: an address that is used again after it was
// gone is news, and the other way round.
func (n *news) contradict(t topic) {
	if t.defended {
		return
	}
	other := func(o topic) bool { return o.ip == t.ip && o.gone != t.gone && !o.defended }
	n.waiting = slices.DeleteFunc(n.waiting, func(e Event) bool { return other(topicOf(e)) })
	for o := range n.told {
		if other(o) {
			delete(n.told, o)
		}
	}
}

// least is which of those that wait is given up: the oldest that does not end
// something, then the oldest that ends no lease. -1: none, while the ends of leases are
// no more than a guest has leases; they are not told again.
func (n *news) least() int {
	for _, spared := range []func(Event) bool{
		func(e Event) bool { return e.Gone },
		func(e Event) bool { return e.Gone && e.How == ByLease },
	} {
		if i := slices.IndexFunc(n.waiting, func(e Event) bool { return !spared(e) }); i >= 0 {
			return i
		}
	}
	if len(n.waiting) < EventsPerSecond+leasesMost {
		return -1
	}
	return 0
}

// take is what may be told now.
func (n *news) take(now time.Time) []Event {
	count := 0
	for count < len(n.waiting) && n.pace.step(now) {
		n.remember(n.waiting[count], now)
		count++
	}
	taken := slices.Clone(n.waiting[:count])
	n.waiting = slices.Delete(n.waiting, 0, count)
	return taken
}

func (n *news) remember(e Event, now time.Time) {
	if n.told == nil {
		n.told = map[topic]said{}
	}
	if len(n.told) >= toldMost {
		n.forget(now)
	}
	n.told[topicOf(e)] = said{at: now, until: e.Until}
}

// forget makes room: what was told long ago, and at least the oldest.
func (n *news) forget(now time.Time) {
	var oldest topic
	var at time.Time
	for t, s := range n.told {
		if now.Sub(s.at) >= sameFor {
			delete(n.told, t)
		}
		if at.IsZero() || s.at.Before(at) {
			oldest, at = t, s.at
		}
	}
	delete(n.told, oldest)
}

// next is when something may be told, zero when nothing waits.
func (n *news) next(now time.Time) time.Time {
	if len(n.waiting) == 0 {
		return time.Time{}
	}
	return n.pace.next(now)
}

// pace lets EventsPerSecond steps pass within any second.
type pace struct {
	steps [EventsPerSecond]time.Time // a ring
	at    int                        // the oldest
}

func (p *pace) step(now time.Time) bool {
	if p.next(now).After(now) {
		return false
	}
	p.steps[p.at] = now
	p.at = (p.at + 1) % len(p.steps)
	return true
}

// next is when one may pass.
func (p *pace) next(now time.Time) time.Time {
	if free := p.steps[p.at].Add(time.Second); !p.steps[p.at].IsZero() && free.After(now) {
		return free
	}
	return now
}
