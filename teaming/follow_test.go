package teaming

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestNewsOfTheBusReachesTheController(t *testing.T) {
	teams, heard := New(Options{}), make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- teams.Run(ctx, func(int) {}, func(team string) { heard <- team }) }()
	for name, want := range map[string]string{BusName + ".team0": "team0", "": ""} {
		teams.Heard(name)
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("%q: told of %q", name, got)
			}
		case <-time.After(testkit.Patience):
			t.Fatalf("%q: nothing was told", name)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNewsThatNobodyTakesBlocksNobody(t *testing.T) {
	teams := New(Options{})
	for i := range 1000 {
		teams.Heard(BusName + ".team0")
		teams.Notice(i+1, "team0")
	}
	if got := teams.unwatched(); !slices.Equal(got, []string{"team0"}) {
		t.Errorf("to be followed: %q", got)
	}
}

func TestATeamOfWhichThereWasNewsIsAskedAboutAllTheSame(t *testing.T) {
	teams := New(Options{})
	teams.keep(7, []option{{name: "user_linkup", port: 3, isSet: true}})
	for _, want := range []int{1, 1} { // and once only
		teams.Notice(7, "team0")
		if got := len(teams.noticed); got != want {
			t.Errorf("asked about %d times, want %d", got, want)
		}
	}
	teams.Forget(7)
	if teams.Notice(7, "team0"); len(teams.noticed) != 2 {
		t.Error("one that was forgotten is not asked about again")
	}
}

func TestVMNewsThatTheSocketCouldNotHoldIsAskedForAgain(t *testing.T) {
	l := newLab(t)
	l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
	l.add(t, Port{Name: "p0"})
	l.add(t, Port{Name: "p1"})
	team, p1 := l.ns.Link(t, l.team).Index, l.ns.Link(t, "p1").Index
	f, err := l.subscribe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.conn.Close() })
	if err := f.conn.SetReadBuffer(16 << 10); err != nil { // it holds a few messages, and one answer
		t.Fatal(err)
	}
	l.Notice(team, l.team)
	for range 20 {
		for _, port := range []string{"p0", "p1"} {
			if err := l.Set(t.Context(), l.team, "runner.active_port", port); err != nil {
				t.Fatal(err)
			}
			l.active(t, port)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.listen(ctx, f, func(int) {}) }()
	// That there is an active port at all is told only to who asks.
	eventually(t, "p1 is known as the active port", func() bool {
		active, _, _ := l.Port(team, p1)
		return active
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestVMAFailoverIsFollowedWithinASecond: the best of a few, because the machine
// may be at something else.
func TestVMAFailoverIsFollowedWithinASecond(t *testing.T) {
	l := newLab(t)
	l.follow(t)
	l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
	team := l.ns.Link(t, l.team).Index
	l.Notice(team, l.team)
	l.add(t, Port{Name: "p0"})
	l.add(t, Port{Name: "p1"})
	index := map[string]int{"p0": l.ns.Link(t, "p0").Index, "p1": l.ns.Link(t, "p1").Index}
	best := testkit.Patience
	for i := 0; i < 6 && best > time.Second; i++ {
		from, to := "p0", "p1"
		if i%2 == 1 {
			from, to = to, from
		}
		l.active(t, from)
		eventually(t, to+" is up", func() bool {
			s, err := l.State(t.Context(), l.team)
			return err == nil && s.Ports[0].Link && s.Ports[1].Link && l.Sends(team, index[from])
		})
		began := time.Now()
		l.out.SetDown(t, "far-"+from)
		eventually(t, to+" sends", func() bool { return l.Sends(team, index[to]) && !l.Sends(team, index[from]) })
		best = min(best, time.Since(began))
		l.out.SetUp(t, "far-"+from)
	}
	t.Logf("best %v", best)
	if best > time.Second {
		t.Errorf("took %v", best)
	}
}

func TestVMAPortSendsAsLongAsItsWatchIsAnswered(t *testing.T) {
	l := newLab(t)
	l.follow(t)
	l.out.Run(t, "ip", "addr", "add", "192.0.2.77/24", "dev", "far-p0")
	watch := LinkWatch{Name: "arp_ping", Interval: ptr(50), MissedMax: ptr(3), SourceHost: "192.0.2.7", TargetHost: "192.0.2.77"}
	l.start(t, Config{Runner: Runner{Name: RoundRobin}, LinkWatch: []LinkWatch{watch}})
	team := l.ns.Link(t, l.team).Index
	l.Notice(team, l.team)
	l.add(t, Port{Name: "p0"})
	p0 := l.ns.Link(t, "p0").Index
	usable := func() bool {
		active, usable, _ := l.Port(team, p0)
		return l.Known(team) && usable && !active && l.Sends(team, p0)
	}
	up := func() bool {
		s, err := l.State(t.Context(), l.team)
		return err == nil && s.Ports[0].Link
	}
	eventually(t, "it is answered", func() bool { return up() && usable() })
	l.out.Run(t, "ip", "addr", "flush", "dev", "far-p0")
	eventually(t, "it is not answered", func() bool { return !up() && !usable() })
	if !l.ns.Link(t, "p0").Carrier {
		t.Error("and it has carrier: it is the watch that says so")
	}
	l.out.Run(t, "ip", "addr", "add", "192.0.2.77/24", "dev", "far-p0")
	eventually(t, "it is answered again", func() bool { return up() && usable() })
}
