package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Device is the name of the uplink.
const Device = "uplink0"

// Uplink makes an uplink of both ports of a host, named Device.
type Uplink struct {
	Name string
	Make func(t testkit.TB, s *testkit.Switches)
}

// Uplinks that are measured. The bond looks at its ports' carrier every 50 ms,
// teamd is told of it by the kernel; arp_ping asks every 100 ms and waits for
// three answers.
var (
	Bond = Uplink{"bond active-backup, miimon 50", func(t testkit.TB, s *testkit.Switches) {
		s.Bond(t, Device, "mode", "active-backup", "miimon", "50")
	}}
	Team = Uplink{"team activebackup, ethtool", func(t testkit.TB, s *testkit.Switches) {
		s.Team(t, Device, `"runner": {"name": "activebackup"}, "link_watch": {"name": "ethtool"}`)
	}}
	TeamARP = Uplink{"team activebackup, arp_ping 100 ms", func(t testkit.TB, s *testkit.Switches) {
		s.Team(t, Device, `"runner": {"name": "activebackup"},
			"link_watch": {"name": "arp_ping", "interval": 100, "missed_max": 3, "target_host": "`+testkit.PeerAddress+`"}`)
	}}
)

// Announcer is who tells the switches where the guests are.
type Announcer interface {
	String() string
	// Guests makes n of them on Device.
	Guests(t testkit.TB, s *testkit.Switches, n int) []testkit.FrameGuest
	// Announced is what is said of a change since then, nil where nobody says.
	Announced(t testkit.TB, since time.Time) *vmnetd.Announcement
}

// Case is what is measured, on an uplink with guests on it.
type Case struct {
	Uplink   Uplink
	Guests   int
	Who      Announcer
	Failures []testkit.Failure // one after the other
	Patience time.Duration     // how long an outage is waited for
}

// Result is what one failure has cost.
type Result struct {
	Case
	Failure  testkit.Failure
	Interval time.Duration // of the frames to each guest

	// Since the failure, on the new port; 0: never.
	First, All time.Duration
	Announced  *vmnetd.Announcement
	Noticed    time.Duration // when the announcer heard of it; 0: nobody says
	Outages    []testkit.Outage
}

// interval is how often each guest gets a frame: every 20 ms, as far as a kernel
// without KVM carries that many.
func interval(guests int) time.Duration {
	return max(20*time.Millisecond, time.Duration(guests)*400*time.Microsecond)
}

// Measure runs a case. t ends what it starts.
func Measure(t testkit.TB, c Case) []Result {
	t.Helper()
	s := testkit.NewSwitches(t)
	c.Uplink.Make(t, s)
	guests := c.Who.Guests(t, s, c.Guests)
	for _, g := range guests {
		g.Speak(t)
	}
	stream := testkit.StartStream(t, s.Peer, "peer0", guests, interval(c.Guests))
	if !stream.Everybody(testkit.Patience) {
		t.Fatalf("%s: the stream does not reach every guest", c.Uplink.Name)
	}
	var list []Result
	for _, how := range c.Failures {
		list = append(list, c.fail(t, s, stream, guests, how))
	}
	stream.Stop()
	return list
}

// fail lets the active port fail, and mends it.
func (c Case) fail(t testkit.TB, s *testkit.Switches, stream *testkit.Stream, guests []testkit.FrameGuest, how testkit.Failure) Result {
	t.Helper()
	port := s.Active(t, Device)
	if port == "" {
		t.Fatalf("%s: no port is active", c.Uplink.Name)
	}
	r := Result{Case: c, Failure: how, Interval: interval(c.Guests)}
	watched := watch(t, s, testkit.Other(port), guests)
	stream.Arm()
	began := time.Now()
	s.Fail(t, port, how)
	stream.Mark()
	stream.Everybody(c.Patience)
	r.Outages = stream.Outages()
	r.First, r.All = watched.end(began)
	if r.Announced = c.Who.Announced(t, began); r.Announced != nil {
		r.Noticed = r.Announced.At.Sub(began)
	}
	s.Mend(t, port, how)
	for _, g := range guests {
		g.Speak(t) // whatever came of it: the next failure finds switches that know
	}
	c.settle(t, s, port)
	return r
}

// settle waits until a port that was mended can be the active one.
func (c Case) settle(t testkit.TB, s *testkit.Switches, port string) {
	t.Helper()
	s.Host.WaitRunning(t, port)
	for deadline := time.Now().Add(testkit.Patience); !s.Usable(t, Device, port); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s stays unusable", c.Uplink.Name, port)
		}
	}
}

// Outage is the median and the worst of a failure; ended is false when a guest never heard again.
func (r Result) Outage() (median, worst time.Duration, ended bool) {
	gaps, ended := make([]time.Duration, len(r.Outages)), true
	for i, o := range r.Outages {
		gaps[i], ended = o.Gap, ended && o.Ended
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2], gaps[len(gaps)-1], ended
}

func (r Result) String() string {
	median, worst, ended := r.Outage()
	return fmt.Sprintf("%s, %d guests, %s, %s: noticed %s, first %s, all %s, outage %s (worst %s, ended %v)",
		r.Uplink.Name, r.Guests, r.Failure, r.Who, r.Noticed, r.First, r.All, median, worst, ended)
}
