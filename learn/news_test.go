package learn

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestOfAFloodTheLatestAreToldAndWhatEnds(t *testing.T) {
	var n news
	of := func(i int) Event { return Event{IP: ip(fmt.Sprintf("10.0.0.%d", i)), How: ByARP} }
	end := Event{IP: ip("192.0.2.1"), How: ByLease, Gone: true}
	n.add(end, began)
	for i := range 200 {
		n.add(of(i), began)
	}
	want := []Event{end}
	for i := 200 - EventsPerSecond + 1; i < 200; i++ {
		want = append(want, of(i))
	}
	if got := n.take(began); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	n.add(of(1), after(1))
	if got := n.take(after(time.Second - 1)); len(got) != 0 {
		t.Errorf("in the same second: %v", got)
	}
	if at := n.next(after(1)); !at.Equal(after(time.Second)) {
		t.Errorf("next at %v", at)
	}
	if got := n.take(after(time.Second)); !slices.Equal(got, []Event{of(1)}) {
		t.Errorf("a second later: %v", got)
	}
	if at := n.next(after(time.Second)); !at.IsZero() {
		t.Errorf("next at %v", at)
	}
}

func TestTheEndOfALeaseIsToldHoweverMuchElseEnds(t *testing.T) {
	var n news
	end := Event{IP: ip("192.0.2.1"), How: ByLease, Gone: true}
	n.add(end, began)
	for i := range 200 {
		n.add(Event{IP: ip(fmt.Sprintf("10.0.0.%d", i)), How: ByRequest, Gone: true}, began)
	}
	if got := n.take(began); len(got) == 0 || got[0] != end {
		t.Errorf("%v", got)
	}
}

func TestTheSameNewsAreToldOnceAMinute(t *testing.T) {
	a := ip("192.0.2.7")
	lease := func(until time.Duration) Event { return Event{IP: a, How: ByLease, Until: after(until)} }
	gone := Event{IP: a, How: ByLease, Gone: true}
	var n news
	for _, c := range []struct {
		at   time.Duration
		e    Event
		told bool
	}{
		{0, Event{IP: a, How: ByARP}, true},
		{time.Second, Event{IP: a, How: ByARP}, false},
		{2 * time.Second, Event{IP: a, How: ByND}, true}, // another way
		{3 * time.Second, Event{IP: a, How: ByARP, Defended: true}, true},
		{sameFor - 1, Event{IP: a, How: ByARP}, false},
		{sameFor, Event{IP: a, How: ByARP}, true},
		{sameFor, lease(time.Hour), true},
		{sameFor, lease(time.Hour + sameEnd - 1), false}, // heard twice
		{sameFor, lease(time.Hour + sameEnd), true},      // renewed
		{sameFor, Event{IP: a, How: ByLease}, true},      // for ever
		{sameFor + 1, gone, true},
		{sameFor + 2, gone, false},
		{sameFor + 3, Event{IP: a, How: ByARP}, true}, // it is back
		{sameFor + 4, gone, true},
	} {
		n.add(c.e, after(c.at))
		if got := n.take(after(c.at)); len(got) == 1 != c.told {
			t.Errorf("after %v: %v, told %v", c.at, c.e, got)
		}
	}
}

func TestOfTwoNewsThatContradictTheLaterIsTold(t *testing.T) {
	a := ip("192.0.2.7")
	uses, gone := Event{IP: a, How: ByLease}, Event{IP: a, How: ByRequest, Gone: true}
	for _, pair := range [][2]Event{{uses, gone}, {gone, uses}} {
		var n news
		n.add(pair[0], began)
		n.add(pair[1], began)
		if got := n.take(began); !slices.Equal(got, pair[1:]) {
			t.Errorf("%v, want %v", got, pair[1:])
		}
	}
}

func TestAlarmsRingInTheirOrderAndOnlyOnce(t *testing.T) {
	var a alarms
	var rung []int
	list := make([]*alarm, 5)
	for i := range list {
		list[i] = &alarm{rings: func(time.Time) { rung = append(rung, i) }}
		a.set(list[i], after(time.Duration(10-i)))
	}
	a.set(list[4], time.Time{})
	a.set(list[4], time.Time{})
	a.set(list[3], after(20))
	if at := a.next(); !at.Equal(after(8)) {
		t.Errorf("next %v", at)
	}
	a.ring(after(7))
	a.ring(after(10))
	a.ring(after(10))
	if !slices.Equal(rung, []int{2, 1, 0}) || !a.next().Equal(after(20)) {
		t.Errorf("%v, next %v", rung, a.next())
	}
}
