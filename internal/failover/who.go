package failover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Nobody announces guests on plain macvtaps, on which the host has no IPv6.
type Nobody struct{}

func (Nobody) String() string { return "nobody" }

// Guests is Announcer's.
func (Nobody) Guests(t testkit.TB, s *testkit.Switches, n int) []testkit.FrameGuest {
	t.Helper()
	return s.Host.NewFrameGuests(t, Device, n)
}

// Announced is Announcer's.
func (Nobody) Announced(testkit.TB, time.Time) *vmnetd.Announcement { return nil }

// Kernel announces guests by accident: on plain macvtaps on which the host's
// IPv6 is left on, it has link-local addresses made from the guests' MACs, and
// sends neighbour advertisements for them when the bond or team says
// NETDEV_NOTIFY_PEERS (net/ipv6/ndisc.c, ndisc_netdev_event).
type Kernel struct{ Nobody }

func (Kernel) String() string { return "the kernel, by accident (host IPv6 on)" }

// Guests is Announcer's.
func (Kernel) Guests(t testkit.TB, s *testkit.Switches, n int) []testkit.FrameGuest {
	t.Helper()
	s.Host.IPv6(t, true)
	guests := s.Host.NewFrameGuests(t, Device, n)
	// An address is not advertised before it is known to be nobody else's.
	for deadline := time.Now().Add(2 * testkit.Patience); ; time.Sleep(20 * time.Millisecond) {
		all := strings.Count(s.Host.Run(t, "ip", "-6", "-o", "address", "show", "scope", "link"), " mv")
		tentative := s.Host.Run(t, "ip", "-6", "-o", "address", "show", "tentative")
		if all == n && !strings.Contains(tentative, " mv") {
			return guests
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d link-local addresses, tentative: %s", all, n, tentative)
		}
	}
}

// Daemon is vmnetd, with the uplink declared as somebody else's.
type Daemon struct {
	Program string // the built binary
	client  *dbusapi.Client
}

func (*Daemon) String() string { return "vmnetd" }

const config = `
uplinks:
  - {name: wan, external: {match: {name: ` + Device + `}}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`

// Guests is Announcer's.
func (d *Daemon) Guests(t testkit.TB, s *testkit.Switches, n int) []testkit.FrameGuest {
	t.Helper()
	_, d.client = Serve(t, d.Program, s.Host, config)
	return d.attach(t, n)
}

// Serve runs the daemon on a host, with a bus of its own that Dial finds from now
// on, and connects to it. Both end with t.
func Serve(t testkit.TB, program string, host *testkit.Netns, config string) (*testkit.Daemon, *dbusapi.Client) {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "vmnetd.yaml"), []byte(config), 0o600))
	const variable = "DBUS_SYSTEM_BUS_ADDRESS" // by which Dial finds the bus
	before, had := os.LookupEnv(variable)
	check(t, os.Setenv(variable, testkit.StartBus(t)))
	t.Cleanup(func() {
		_ = os.Unsetenv(variable)
		if had {
			_ = os.Setenv(variable, before)
		}
	})
	daemon, err := testkit.StartDaemon(ctx, testkit.DaemonOptions{Program: program, Dir: dir, Bus: os.Getenv(variable), Netns: host.Do})
	check(t, err)
	t.Cleanup(func() {
		daemon.Kill()
		if t.Failed() {
			t.Logf("vmnetd said last:\n%s", daemon.Log()[max(0, len(daemon.Log())-1500):])
		}
	})
	client, err := dbusapi.Dial(ctx)
	check(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return daemon, client
}

// attach gives that many guests a NIC on the only network.
func (d *Daemon) attach(t testkit.TB, n int) []testkit.FrameGuest {
	t.Helper()
	guests := make([]testkit.FrameGuest, n)
	for i := range guests {
		attached, set, err := d.client.OpenTap(context.Background(), vmnetd.Request{
			VM: fmt.Sprintf("vm%d", i), ID: "net0", MAC: testkit.FrameGuestMAC(i).String(), Queues: 1, NoVHost: true,
		}, 0)
		check(t, err)
		t.Cleanup(func() { _ = set.Close() })
		if attached.MAC != testkit.FrameGuestMAC(i).String() {
			t.Fatalf("attached as %s", attached.MAC)
		}
		guests[i] = testkit.FrameGuest{MAC: testkit.FrameGuestMAC(i), FD: set.Queues[0]}
	}
	return guests
}

// Announced is Announcer's: the property follows the frames in a moment.
func (d *Daemon) Announced(t testkit.TB, since time.Time) *vmnetd.Announcement {
	t.Helper()
	for deadline := time.Now().Add(testkit.Patience); ; time.Sleep(10 * time.Millisecond) {
		uplinks, err := d.client.Uplinks(context.Background())
		check(t, err)
		if len(uplinks) != 1 {
			t.Fatalf("uplinks: %+v", uplinks)
		}
		if a := uplinks[0].Announced; a != nil && a.At.After(since) {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was announced since %s; last: %+v", since, uplinks[0].Announced)
		}
	}
}

func check(t testkit.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}
