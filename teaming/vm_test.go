package teaming

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// starterEnv has the test binary start a teamd and wait to be killed.
const starterEnv = "TEAMING_TEST_STARTER"

func TestMain(m *testing.M) {
	if team := os.Getenv(starterEnv); team != "" {
		conn, err := rtnl.Open()
		if err == nil {
			err = New(Options{Conn: conn}).Start(context.Background(), team, Config{Runner: Runner{Name: RoundRobin}}, false)
		}
		fmt.Println(err)
		select {}
	}
	testkit.LeakCheck(m)
}

// lab is a host with NICs p0 and p1, and a team of a name that nobody else has.
type lab struct {
	*Teams
	ns, out *testkit.Netns
	team    string
}

var teams atomic.Int32

func newLab(t *testing.T, change ...func(*Options)) *lab {
	t.Helper()
	testkit.Require(t, "vm")
	l := &lab{ns: testkit.NewNetns(t), out: testkit.NewNetns(t), team: fmt.Sprintf("tt%d-%d", os.Getpid()%100000, teams.Add(1))}
	for _, p := range []string{"p0", "p1"} {
		testkit.NewVeth(t, l.ns, p, l.out, "far-"+p)
		l.ns.SetDown(t, p)
	}
	o := Options{Conn: l.ns.Conn()}
	for _, c := range change {
		c(&o)
	}
	l.Teams = New(o)
	t.Cleanup(func() {
		if err := l.Kill(context.Background(), l.team); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) start(t *testing.T, c Config) {
	t.Helper()
	starts(t, func() error { return l.Start(t.Context(), l.team, c, false) })
	l.ns.SetUp(t, l.team)
}

// starts is a start of teamd that must go well, tried again where teamd did not answer in
// time: the machine may be at something else.
func starts(t *testing.T, start func() error) {
	t.Helper()
	err := start()
	for tries := 1; err != nil && strings.Contains(err.Error(), "does not answer") && tries < 3; tries++ {
		err = start()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lab) add(t *testing.T, p Port) {
	t.Helper()
	if err := l.PortAdd(t.Context(), l.team, p); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) is(t *testing.T, want Config) {
	t.Helper()
	is, err := l.Config(t.Context(), l.team)
	if err != nil {
		t.Fatal(err)
	}
	if diff := Diff(is, want); len(diff) > 0 {
		t.Errorf("differs: %+v", diff)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testkit.Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestVMEveryRunnerIsWhatWasAskedFor(t *testing.T) {
	for _, runner := range Runners() {
		t.Run(runner, func(t *testing.T) {
			l := newLab(t)
			c := whole(runner, "p0", "p1")
			made := c
			made.Ports = nil
			l.start(t, made)
			for _, p := range c.Ports {
				l.add(t, p)
			}
			l.is(t, c)
			if mac := l.ns.Link(t, l.team).MAC.String(); mac != c.HWAddr {
				t.Errorf("MAC %s", mac)
			}
			eventually(t, "both ports are up", func() bool {
				s, err := l.State(t.Context(), l.team)
				return err == nil && s.Runner == runner && len(s.Ports) == 2 && s.Ports[0].Link && s.Ports[1].Link
			})
			// The ports change while it runs.
			for i := range c.Ports {
				c.Ports[i].QueueID = ptr(3 + i)
				c.Ports[i].LinkWatch = []LinkWatch{{Name: "ethtool", DelayUp: ptr(1)}, {Name: "ethtool", DelayDown: ptr(1)}}
				if runner == ActiveBackup {
					c.Ports[i].Prio, c.Ports[i].Sticky = ptr(7*i), nil
				}
				if err := l.SetPort(t.Context(), l.team, c, c.Ports[i].Name); err != nil {
					t.Fatal(err)
				}
			}
			l.is(t, c)
			if got := l.ns.Run(t, "teamnl", "-p", "p1", l.team, "getoption", "queue_id"); strings.TrimSpace(got) != "4" {
				t.Errorf("queue_id is %q", got)
			}
			if err := l.PortRemove(t.Context(), l.team, "p0"); err != nil {
				t.Fatal(err)
			}
			if l.ns.Link(t, "p0").Master != 0 {
				t.Error("p0 is still in")
			}
		})
	}
}

func TestVMAKilledTeamdIsTakenOverAndNothingGoesAway(t *testing.T) {
	l := newLab(t)
	c := Config{Runner: Runner{Name: ActiveBackup}, Ports: []Port{{Name: "p0", Prio: ptr(10)}, {Name: "p1", Prio: ptr(5)}}}
	l.start(t, Config{Runner: c.Runner})
	for _, p := range c.Ports {
		l.add(t, p)
	}
	team := l.ns.Link(t, l.team)
	tap := l.ns.Create(t, rtnl.NewLink{Name: "tap0", Kind: "macvtap", Lower: team.Index, Data: rtnl.MacvlanMode("bridge")})
	same := func(when string) {
		t.Helper()
		l.is(t, c)
		if l.ns.Link(t, l.team).Index != team.Index || l.ns.Link(t, "tap0").Index != tap.Index || l.ns.Link(t, "p0").Master != team.Index || l.ns.Link(t, "p1").Master != team.Index {
			t.Errorf("%s: something has gone or is another one", when)
		}
	}
	if err := l.Kill(t.Context(), l.team); err != nil {
		t.Fatal(err)
	}
	if _, err := l.State(t.Context(), l.team); !errors.Is(err, ErrGone) {
		t.Errorf("after a kill: %v", err)
	}
	starts(t, func() error { return l.Start(t.Context(), l.team, c, true) })
	same("taken over")
	c.NotifyPeers = &Burst{Count: ptr(4)}
	starts(t, func() error { return l.Restart(t.Context(), l.team, c) })
	same("with another configuration")
	// One that is stopped is killed all the same.
	if err := unix.Kill(l.pid(l.team), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := l.State(t.Context(), l.team); !errors.Is(err, ErrSilent) {
		t.Errorf("stopped: %v", err)
	}
	starts(t, func() error { return l.Restart(t.Context(), l.team, c) })
	same("after it was stopped")
}

func TestVMAStartThatFailsSaysTeamdsLastWordsAndLeavesNothing(t *testing.T) {
	l := newLab(t)
	err := l.Start(t.Context(), l.team, Config{Runner: Runner{Name: "bogus"}}, false)
	if err == nil || !strings.Contains(err.Error(), `No runner named "bogus" available`) {
		t.Errorf("got %v", err)
	}
	if _, err := l.ns.Conn().LinkByName(t.Context(), l.team); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("the device: %v", err)
	}
	if l.pid(l.team) != 0 {
		t.Error("it runs")
	}
}

func TestVMErrorsKeepTheirClassOverBusAndSocket(t *testing.T) {
	for _, way := range []string{"socket", "bus", "socket, when the bus has gone"} {
		t.Run(way, func(t *testing.T) {
			l, daemon := newLab(t), (*testkit.Bus)(nil)
			if way != "socket" {
				daemon = testkit.NewBus(t)
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
			}
			l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
			if daemon != nil {
				if enabled, err := l.Get(t.Context(), l.team, "setup.dbus_enabled"); err != nil || enabled != "true" {
					t.Errorf("dbus_enabled %q, %v", enabled, err)
				}
			}
			if strings.HasPrefix(way, "socket,") {
				daemon.Stop() // teamd 1.31 may die of it
				if l.pid(l.team) == 0 {
					starts(t, func() error { return l.Start(t.Context(), l.team, Config{Runner: Runner{Name: ActiveBackup}}, true) })
				}
			}
			for what, err := range map[string]error{
				"no such port":   l.PortRemove(t.Context(), l.team, "nobody0"),
				"no such item":   l.Set(t.Context(), l.team, "bogus", "1"),
				"no such device": l.PortAdd(t.Context(), l.team, Port{Name: "nobody0"}),
			} {
				if !errors.Is(err, vmnetd.ErrNotFound) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := l.Set(t.Context(), l.team, "setup.runner_name", "lacp"); !errors.Is(err, vmnetd.ErrUnsupported) {
				t.Errorf("an item that cannot be set: %v", err)
			}
			if err := l.SetPortConfig(t.Context(), l.team, "p0", "{"); !errors.Is(err, vmnetd.ErrInvalid) {
				t.Errorf("bad JSON: %v", err)
			}
		})
	}
}

// news is what Run has told.
type news struct {
	changed chan int
	ended   chan string
}

func (l *lab) follow(t *testing.T) news {
	t.Helper()
	n := news{make(chan int, 1000), make(chan string, 10)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- l.Run(ctx, func(i int) { n.changed <- i }, func(team string) { n.ended <- team })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return n
}

func TestVMTheActivePortIsFollowedAsTheDriverHearsOfIt(t *testing.T) {
	l := newLab(t)
	n := l.follow(t)
	l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
	team := l.ns.Link(t, l.team).Index
	if !l.Sends(team, 7) || l.Known(team) {
		t.Error("a team that was not heard of")
	}
	l.Notice(team, l.team)
	l.add(t, Port{Name: "p0", Prio: ptr(10), QueueID: ptr(2)})
	l.add(t, Port{Name: "p1"})
	p0, p1 := l.ns.Link(t, "p0").Index, l.ns.Link(t, "p1").Index
	eventually(t, "p0 is active", func() bool { return l.Sends(team, p0) && !l.Sends(team, p1) })
	if active, usable, queue := l.Port(team, p0); !active || !usable || queue != 2 {
		t.Errorf("p0: active %v, usable %v, queue %d", active, usable, queue)
	}
	for len(n.changed) > 0 {
		<-n.changed
	}
	l.out.SetDown(t, "far-p0")
	select {
	case got := <-n.changed:
		if got != team {
			t.Errorf("told of %d, not of %d", got, team)
		}
	case <-time.After(testkit.Patience):
		t.Fatal("nothing was told")
	}
	eventually(t, "p1 is active", func() bool { return l.Sends(team, p1) && !l.Sends(team, p0) })
	if err := unix.Kill(l.pid(l.team), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-n.ended:
		if got != l.team {
			t.Errorf("told of %q", got)
		}
	case <-time.After(testkit.Patience):
		t.Error("a killed teamd was not told")
	}
	l.Forget(team)
	if l.Known(team) {
		t.Error("it is not forgotten")
	}
}

func TestVMAPortWhoseWatchSeesNothingDoesNotSend(t *testing.T) {
	l := newLab(t)
	l.follow(t)
	l.start(t, Config{Runner: Runner{Name: RoundRobin}, LinkWatch: []LinkWatch{{Name: "arp_ping", Interval: ptr(20), MissedMax: ptr(2), TargetHost: "192.0.2.77"}}})
	team := l.ns.Link(t, l.team).Index
	l.Notice(team, l.team)
	l.add(t, Port{Name: "p0"})
	p0 := l.ns.Link(t, "p0").Index
	eventually(t, "p0 is judged unusable", func() bool { return l.Known(team) && !l.Sends(team, p0) })
	if !l.ns.Link(t, "p0").Carrier {
		t.Error("and it has carrier: it is the watch that says so")
	}
}

func TestVMATeamdOutlivesWhoStartedIt(t *testing.T) {
	l := newLab(t)
	cmd := l.ns.Command(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), starterEnv+"="+l.team)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 200)
	n, err := out.Read(said)
	if err != nil || strings.TrimSpace(string(said[:n])) != "<nil>" {
		t.Fatalf("the starter said %q, %v", said[:n], err)
	}
	_ = cmd.Process.Kill()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the starter ended with %v", err)
	}
	// What it says now, nobody hears: that must not end it.
	l.add(t, Port{Name: "p0"})
	s, err := l.State(t.Context(), l.team)
	if err != nil || !slices.ContainsFunc(s.Ports, func(p vmnetd.TeamPort) bool { return p.Name == "p0" }) {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestVMTheDocumentationsExamplesRunAsTheyAreWritten is for what Debian's package
// has in its documentation; where a machine leaves that out, nothing is shown.
func TestVMTheDocumentationsExamplesRunAsTheyAreWritten(t *testing.T) {
	testkit.Require(t, "vm")
	files, err := filepath.Glob("/usr/share/doc/libteam-utils/examples/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d examples", len(files))
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := Parse(text)
			if strings.Contains(string(text), "tipc") {
				if !errors.Is(err, vmnetd.ErrInvalid) && len(c.Check()) == 0 {
					t.Error("tipc needs a cluster's own network, and is taken")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if problems := c.Check(); len(problems) > 0 {
				t.Errorf("%+v", problems)
			}
			l := newLab(t)
			made := c
			made.Ports = nil
			l.start(t, made)
			for _, p := range c.Ports {
				testkit.NewVeth(t, l.ns, p.Name, l.out, "far-"+p.Name)
				l.ns.SetDown(t, p.Name)
				l.add(t, p)
			}
			l.is(t, c)
			// Its own words, by its own tool.
			again, _, err := Parse([]byte(l.ns.Run(t, "teamdctl", l.team, "config", "dump", "actual")))
			if err != nil {
				t.Fatal(err)
			}
			if diff := Diff(again, c); len(diff) > 0 {
				t.Errorf("by teamdctl: %+v", diff)
			}
		})
	}
}

func TestVMATeamOfAnotherModeSendsOnAllItsPorts(t *testing.T) {
	l := newLab(t)
	l.follow(t)
	l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
	team := l.ns.Link(t, l.team).Index
	l.Notice(team, l.team)
	eventually(t, "it is known", func() bool { return l.Known(team) })
	starts(t, func() error { return l.Restart(t.Context(), l.team, Config{Runner: Runner{Name: RoundRobin}}) })
	l.add(t, Port{Name: "p0"})
	l.add(t, Port{Name: "p1"})
	p0, p1 := l.ns.Link(t, "p0").Index, l.ns.Link(t, "p1").Index
	eventually(t, "both send", func() bool { return l.Sends(team, p0) && l.Sends(team, p1) })
}
