package teaming

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// onBus has the lab's teams asked over a bus, and returns it.
func (l *lab) onBus(t *testing.T) *testkit.Bus {
	t.Helper()
	daemon := testkit.NewBus(t)
	client := bus.NewClient(daemon.Address, nil, "", nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the client: %v", err)
		}
	})
	l.Teams = New(Options{Conn: l.ns.Conn(), Bus: client, BusAddress: daemon.Address})
	eventually(t, "the client is on the bus", func() bool {
		_, err := client.Call(t.Context(), "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.GetId")
		return err == nil
	})
	return daemon
}

func TestVMTeamdsDefaultsAreNoDifference(t *testing.T) {
	for _, runner := range Runners() {
		t.Run(runner, func(t *testing.T) {
			l := newLab(t)
			l.start(t, Config{Runner: Runner{Name: runner}})
			l.add(t, Port{Name: "p0"})
			l.add(t, Port{Name: "p1", QueueID: ptr(0)})
			l.is(t, Config{Runner: Runner{Name: runner}, Ports: []Port{{Name: "p0"}, {Name: "p1", QueueID: ptr(0)}}})
			s, err := l.State(t.Context(), l.team)
			if err != nil || s.Runner != runner || s.PID != l.pid(l.team) || (s.LACP != nil) != (runner == LACP) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// active waits until a port is the active one, by teamd's word and the driver's.
func (l *lab) active(t *testing.T, port string) {
	t.Helper()
	eventually(t, port+" is active", func() bool {
		got, err := l.Get(t.Context(), l.team, "runner.active_port")
		return err == nil && got == port
	})
}

func TestVMPrioritiesAndStickyDecideAsSoonAsTheyAreSet(t *testing.T) {
	l := newLab(t)
	c := Config{Runner: Runner{Name: ActiveBackup}, Ports: []Port{{Name: "p0", Prio: ptr(10)}, {Name: "p1", Prio: ptr(5)}}}
	l.start(t, Config{Runner: c.Runner})
	for _, p := range c.Ports {
		l.add(t, p)
	}
	l.active(t, "p0")
	set := func(i int, p Port) {
		t.Helper()
		c.Ports[i] = p
		if err := l.SetPort(t.Context(), l.team, c, p.Name); err != nil {
			t.Fatal(err)
		}
		l.is(t, c)
	}
	before := l.ns.Link(t, "p1").Master
	set(1, Port{Name: "p1", Prio: ptr(20)})
	l.active(t, "p1")
	// What is active by hand stays, when it is sticky, whatever its priority.
	set(0, Port{Name: "p0", Prio: ptr(1), Sticky: ptr(true)})
	if err := l.Set(t.Context(), l.team, "runner.active_port", "p0"); err != nil {
		t.Fatal(err)
	}
	l.active(t, "p0")
	l.out.SetDown(t, "far-p1")
	eventually(t, "p1 is down", func() bool {
		s, err := l.State(t.Context(), l.team)
		return err == nil && !s.Ports[1].Link
	})
	l.out.SetUp(t, "far-p1")
	eventually(t, "p1 is up", func() bool {
		s, err := l.State(t.Context(), l.team)
		return err == nil && s.Ports[1].Link
	})
	l.active(t, "p0")
	s, err := l.State(t.Context(), l.team)
	if err != nil {
		t.Fatal(err)
	}
	if p0, p1 := s.Ports[0], s.Ports[1]; s.ActivePort != "p0" || p0.Prio != 1 || !p0.Sticky || p1.Prio != 20 || p1.Sticky {
		t.Errorf("the state: %+v", s)
	}
	if l.ns.Link(t, "p1").Master != before {
		t.Error("p1 is in another team")
	}
	// And no longer sticky, it gives way at once.
	set(0, Port{Name: "p0", Prio: ptr(1)})
	l.active(t, "p1")
}

func TestVMLACPsOwnOfAPortIsSetLive(t *testing.T) {
	l := newLab(t)
	c := Config{Runner: Runner{Name: LACP}, Ports: []Port{{Name: "p0", LACPPrio: ptr(10)}}}
	l.start(t, Config{Runner: c.Runner})
	l.add(t, c.Ports[0])
	c.Ports[0].LACPPrio, c.Ports[0].LACPKey = ptr(20), ptr(4)
	if err := l.SetPort(t.Context(), l.team, c, "p0"); err != nil {
		t.Fatal(err)
	}
	for item, want := range map[string]string{"ports.p0.runner.prio": "20", "ports.p0.runner.key": "4"} {
		if got, err := l.Get(t.Context(), l.team, item); err != nil || got != want {
			t.Errorf("%s is %q, want %q, %v", item, got, want, err)
		}
	}
	s, err := l.State(t.Context(), l.team)
	if err != nil || s.Ports[0].Prio != 20 || s.Ports[0].LACPState == "current" || s.LACP == nil || !s.LACP.Active {
		t.Errorf("%+v, %v", s, err)
	}
	for what, c := range map[string]Config{"not declared": c, "not in": {Runner: c.Runner, Ports: []Port{{Name: "p1"}}}} {
		if err := l.SetPort(t.Context(), l.team, c, "p1"); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("a port that is %s: %v", what, err)
		}
	}
}

func TestVMAPortsJSONMayHaveLinesAndEscapesOverBusAndSocket(t *testing.T) {
	for _, way := range []string{"socket", "bus"} {
		t.Run(way, func(t *testing.T) {
			l := newLab(t)
			if way == "bus" {
				l.onBus(t)
			}
			l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
			l.add(t, Port{Name: "p0"})
			if err := l.SetPortConfig(t.Context(), l.team, "p0", "{\n\t\"pr\\u0069o\": 7,\n\t\"sticky\": true\n}"); err != nil {
				t.Fatal(err)
			}
			text, err := l.PortConfig(t.Context(), l.team, "p0")
			if err != nil || !strings.Contains(text, `"prio": 7`) || !strings.Contains(text, `"sticky": true`) {
				t.Errorf("%s, %v", text, err)
			}
			if got := l.ns.Run(t, "teamnl", "-p", "p0", l.team, "getoption", "priority"); strings.TrimSpace(got) != "7" {
				t.Errorf("the driver has priority %q", got)
			}
			given, err := l.ConfigText(t.Context(), l.team, false)
			if err != nil || !strings.Contains(given, `"prio": 7`) {
				t.Errorf("%s, %v", given, err)
			}
		})
	}
}

func TestVMATeamdThatIsNotOnTheBusIsAskedByItsSocket(t *testing.T) {
	l := newLab(t)
	l.start(t, Config{Runner: Runner{Name: RoundRobin}}) // no bus yet
	l.onBus(t)
	if enabled, err := l.Get(t.Context(), l.team, "setup.dbus_enabled"); err != nil || enabled != "false" {
		t.Errorf("dbus_enabled %q, %v", enabled, err)
	}
	if _, err := l.State(t.Context(), "nobody0"); !errors.Is(err, ErrGone) {
		t.Errorf("a team that nobody runs: %v", err)
	}
}
