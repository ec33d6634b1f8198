package learn

import (
	"container/heap"
	"time"
)

// alarm rings once at a time.
type alarm struct {
	at    time.Time // zero: it is not set
	place int       // in the heap
	rings func(now time.Time)
}

// alarms is those that are set, the next one first.
type alarms struct{ queue alarmQueue }

// set sets an alarm, or anew; zero: it does not ring.
func (a *alarms) set(al *alarm, at time.Time) {
	was := !al.at.IsZero()
	al.at = at
	switch {
	case was && at.IsZero():
		heap.Remove(&a.queue, al.place)
	case was:
		heap.Fix(&a.queue, al.place)
	case !at.IsZero():
		heap.Push(&a.queue, al)
	}
}

// next is when the next one is due, zero when none is set.
func (a *alarms) next() time.Time {
	if len(a.queue) == 0 {
		return time.Time{}
	}
	return a.queue[0].at
}

// ring rings those that are due. One that sets itself to now again waits for the
// next call.
func (a *alarms) ring(now time.Time) {
	var due []*alarm
	for len(a.queue) > 0 && !a.queue[0].at.After(now) {
		al := a.queue[0]
		a.set(al, time.Time{})
		due = append(due, al)
	}
	for _, al := range due {
		al.rings(now)
	}
}

// alarmQueue is a container/heap.
type alarmQueue []*alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q alarmQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push is for container/heap.
func (q *alarmQueue) Push(x any) {
	al := x.(*alarm) //nolint:errcheck // nothing else is pushed
	al.place = len(*q)
	*q = append(*q, al)
}

// Pop is for container/heap.
func (q *alarmQueue) Pop() any {
	last := len(*q) - 1
	al := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return al
}
