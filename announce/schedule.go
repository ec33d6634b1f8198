package announce

import (
	"container/heap"
	"context"
	"log/slog"
	"time"
)

// repeats are the rounds after the first, counted from the change on: a switch
// port may forward late (IEEE 802.1D spanning tree listens and learns for 15 s
// each).
var repeats = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second}

// pending is a change whose repeats are not over.
type pending struct {
	change Change
	at     time.Time       // of the next round
	next   int             // which of repeats that is
	place  int             // in the heap
	quiet  map[string]bool // MACs that are not announced any more
}

// advance moves to the first round after now; false when none is left.
func (p *pending) advance(now time.Time) bool {
	for ; p.next < len(repeats); p.next++ {
		if p.at = p.change.Seen.Add(repeats[p.next]); p.at.After(now) {
			return true
		}
	}
	return false
}

// wanted is who of list is still to be announced.
func (p *pending) wanted(list []Address) []Address {
	some := make([]Address, 0, len(list))
	for _, one := range list {
		if !p.quiet[string(one.MAC)] {
			some = append(some, one)
		}
	}
	return some
}

// schedule is what is pending, one for each key, the next one first.
type schedule struct {
	queue queue
	byKey map[string]*pending
}

// add takes the place of what is pending for the change's key.
func (s *schedule) add(c Change, now time.Time) *pending {
	p := &pending{change: c, quiet: map[string]bool{}}
	old := s.byKey[c.Key]
	if old != nil && old.change.Seen.After(c.Seen) {
		return p // it was overtaken: its first round alone
	}
	if old != nil {
		s.drop(old)
	}
	if p.advance(now) {
		s.byKey[c.Key] = p
		heap.Push(&s.queue, p)
	}
	return p
}

func (s *schedule) drop(p *pending) {
	delete(s.byKey, p.change.Key)
	heap.Remove(&s.queue, p.place)
}

// due is a change with a round to send now, nil when there is none; then wait
// is how long until there is, negative for never.
func (s *schedule) due(now time.Time) (p *pending, wait time.Duration) {
	if len(s.queue) == 0 {
		return nil, -1
	}
	p = s.queue[0]
	if wait = p.at.Sub(now); wait > 0 {
		return nil, wait
	}
	return p, 0
}

// sent is told when a round of p is over.
func (s *schedule) sent(p *pending, now time.Time) {
	switch {
	case s.byKey[p.change.Key] != p: // replaced meanwhile
	case p.advance(now):
		heap.Fix(&s.queue, p.place)
	default:
		s.drop(p)
	}
}

// Run sends the repeats until ctx ends. Nothing is done while nothing is
// pending.
func (a *Announcer) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := a.repeat()
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.sooner:
		case <-timer.C:
		}
	}
}

// repeat sends all rounds that are due, and says how long until the next one.
func (a *Announcer) repeat() time.Duration {
	for {
		a.mu.Lock()
		p, wait := a.schedule.due(time.Now())
		a.mu.Unlock()
		if p == nil {
			return wait
		}
		a.round(p, slog.LevelDebug)
		a.mu.Lock()
		a.schedule.sent(p, time.Now())
		a.mu.Unlock()
	}
}

// queue is a container/heap by the time of the next round.
type queue []*pending

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push is heap.Interface's.
func (q *queue) Push(x any) {
	p, _ := x.(*pending)
	p.place = len(*q)
	*q = append(*q, p)
}

// Pop is heap.Interface's.
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}
