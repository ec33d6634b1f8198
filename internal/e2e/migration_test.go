package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// The peer's second address, and those of the guest: one on a NIC of ours, one on
// libvirt's own.
const (
	peerDirect  = "198.51.100.1"
	guestOurs   = "192.0.2.2"
	guestDirect = "198.51.100.2"
	directMAC   = "52:54:00:00:00:3a"
)

// outage is what no move costs, also on a busy machine.
const outage = 3 * time.Second

// mover is the guest that is moved.
const mover = "mover"

// moveConfig lets the guest in, or not.
func moveConfig(denied bool) string {
	if denied {
		return strings.Replace(libvirtConfig, `"evil*"`, `"`+mover+`"`, 1)
	}
	return libvirtConfig
}

// moveBed is two hosts with all of ours on one switch, and a guest that its peer
// pings at 100 Hz.
type moveBed struct {
	*testkit.TwoHosts
	a, b  *libvirtBed
	guest *testkit.LibvirtGuest
	att   vmnetd.Attachment // on A
	pings *testkit.Pings
}

// newMoveBed has the guest run on A. A NIC of libvirt's type='direct' is beside
// ours: both are moved at the same moment.
func newMoveBed(t *testing.T) *moveBed {
	t.Helper()
	testkit.Require(t, "libvirt")
	m := &moveBed{TwoHosts: testkit.NewTwoHosts(t)}
	m.a = withLibvirt(newBedIn(t, libvirtConfig, m.A, m.Net), libvirtConfig)
	m.b = withLibvirt(newBedIn(t, libvirtConfig, m.B, m.Net), libvirtConfig)
	m.a.start()
	m.b.start()
	m.guest = testkit.BootLibvirtGuest(t, m.a.Libvirtd, testkit.LibvirtGuestOptions{Name: mover, Interfaces: []string{
		m.a.must(0, "xml", mover, "--network", "lan").out,
		"<interface type='direct'><mac address='" + directMAC + "'/><source dev='u0' mode='bridge'/><model type='virtio'/></interface>",
	}})
	m.a.settled(mover, "up", 1)
	m.att = m.a.list(mover)[0]
	m.Acquaint(t, m.guest, m.att.MAC, guestOurs, testkit.PeerAddress)
	m.Acquaint(t, m.guest, directMAC, guestDirect, peerDirect)
	m.pings = testkit.StartPings(t, m.Peer, 10*time.Millisecond, netip.MustParseAddr(guestOurs), netip.MustParseAddr(guestDirect))
	return m
}

// TestLiveMigration moves one guest, which costs the most to boot, in every way
// that fails and then in earnest.
func TestLiveMigration(t *testing.T) {
	t.Parallel()
	m := newMoveBed(t)
	for _, sub := range []struct {
		name string
		run  func(*moveBed, *testing.T)
	}{
		{"DeniedByTheDestination", moveDenied},
		{"AbortedBySource", moveAborted},
		{"DestinationsLibvirtdKilled", moveOrphaned},
		{"Moved", moved},
		{"SilentGuestMovedBack", movedSilent},
	} {
		ok := t.Run(sub.name, func(t *testing.T) {
			for _, b := range []*bed{m.a.bed, m.b.bed} {
				outer := b.t
				b.t = t
				defer func() { b.t = outer }()
			}
			sub.run(m, t)
		})
		if !ok {
			t.Logf("daemon of A: %s\ndaemon of B: %s", m.a.daemon.log, m.b.daemon.log)
			break // the guest is not where the next expects it
		}
	}
	m.a.stop()
	m.b.stop()
}

// stays checks that the guest works on A and that B has nothing of it.
func (m *moveBed) stays(t *testing.T) {
	t.Helper()
	m.a.settled(mover, "up", 1)
	if !m.pings.Answered(10, testkit.Patience) {
		t.Errorf("the guest does not answer any more: %+v", m.pings.Counts())
	}
	if now := m.a.list(mover)[0]; now.Ifindex != m.att.Ifindex || now.Problem != "" {
		t.Errorf("on the source: %+v, it was %+v", now, m.att)
	}
	m.b.nothing()
}

func moveDenied(m *moveBed, t *testing.T) {
	m.b.config(strings.ReplaceAll(moveConfig(true), "URI", m.b.URI))
	m.b.must(0, "reload")
	m.pings.Begin()
	err := m.guest.Migrate(m.b.Libvirtd, nil)
	if err == nil || !strings.Contains(err.Error(), "INC-4711") {
		t.Errorf("a move to where policy denies the VM: %v", err)
	}
	m.stays(t)
	if lost := m.pings.Counts()[0]; lost.Gap > outage {
		t.Errorf("nothing was moved, and it cost %+v", lost)
	}
	m.b.config(strings.ReplaceAll(moveConfig(false), "URI", m.b.URI))
	m.b.must(0, "reload")
}

// begin begins a move that does not end, until it is let go, and returns when the
// guest's memory is on its way.
func (m *moveBed) begin(t *testing.T, from, to *libvirtBed) (ended <-chan error) {
	t.Helper()
	const crawl = "1" // MiB/s
	from.Virsh("migrate-setspeed", mover, crawl)
	done := make(chan error, 1)
	go func() { done <- m.guest.Migrate(to.Libvirtd, nil) }()
	to.eventually("the guest is on its way", testkit.Patience, func() error {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("the move ended early: %v", err)
		default:
		}
		if info := from.Virsh("domjobinfo", mover); !strings.Contains(info, "Memory processed") {
			return fmt.Errorf("%s", info)
		}
		return nil
	})
	to.settled(mover, "down", 1)
	if link := to.host.Link(t, m.att.Ifname); link.Up {
		t.Errorf("the guest is elsewhere, and its device is up: %+v", link)
	}
	return done
}

// letGo ends what begin holds back.
func letGo(from *libvirtBed) { from.Virsh("migrate-setspeed", mover, "10000") }

func moveAborted(m *moveBed, t *testing.T) {
	m.pings.Begin()
	ended := m.begin(t, m.a, m.b)
	m.a.Virsh("domjobabort", mover)
	if err := <-ended; err == nil {
		t.Error("an aborted move has succeeded")
	}
	letGo(m.a)
	m.stays(t)
	if lost := m.pings.Counts()[0]; lost.Gap > outage {
		t.Errorf("nothing was moved, and it cost %+v", lost)
	}
}

// moveOrphaned: the guest's CPUs have stopped on the source when it is found that
// nobody takes it, so there they run again.
func moveOrphaned(m *moveBed, t *testing.T) {
	ended := m.begin(t, m.a, m.b)
	m.b.Kill()
	letGo(m.a)
	if err := <-ended; err == nil {
		t.Error("a move to a libvirtd that is dead has succeeded")
	}
	m.a.settled(mover, "up", 1)
	if !m.pings.Answered(10, testkit.Patience) {
		t.Errorf("the guest does not answer any more: %+v", m.pings.Counts())
	}
	if link := m.b.host.Link(t, m.att.Ifname); link.Up {
		t.Errorf("the guest is elsewhere, and its device is up: %+v", link)
	}
	m.b.Start()
	m.stays(t)
}

func moved(m *moveBed, t *testing.T) {
	m.pings.Begin()
	up := whenUp(t, m.B, m.att.Ifname)
	wire := m.Net.Sniff(t, "b", unix.ETH_P_RARP, unix.ETH_P_ARP, unix.ETH_P_IP)
	resumed := m.b.WatchResume()
	ended := m.begin(t, m.a, m.b)
	m.b.kill() // whoever comes back finds a guest that is still to arrive
	m.b.start()
	m.b.settled(mover, "down", 1)
	letGo(m.a)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	ran, err := resumed()
	if err != nil {
		t.Fatal(err)
	}
	m.arrived(t, m.a, m.b)
	if at := up(); at.Before(ran) {
		t.Errorf("the device was up %s before the guest's CPUs ran", ran.Sub(at))
	} else {
		t.Logf("the device was up %s after the guest's CPUs ran", at.Sub(ran))
	}
	announced(t, wire, m.att.MAC, ran)
}

// arrived checks that the guest works at its new place and that the old one has
// nothing of it.
func (m *moveBed) arrived(t *testing.T, from, to *libvirtBed) {
	t.Helper()
	to.settled(mover, "up", 1)
	from.nothing()
	if !m.pings.Answered(10, testkit.Patience) {
		t.Errorf("the guest does not answer where it is now: %+v", m.pings.Counts())
	}
	if out, err := m.guest.Run(t.Context(), "echo here"); err != nil || out != "here\n" {
		t.Errorf("where it is now the guest says %q, %v", out, err)
	}
	if now := to.list(mover)[0]; now.MAC != m.att.MAC || now.Network != m.att.Network || now.Mode != m.att.Mode || now.Problem != "" || now.Via != "libvirt" {
		t.Errorf("it arrived as %+v, it was %+v", now, m.att)
	}
	lost := m.pings.Counts()[0]
	if t.Logf("the move cost %+v", lost); lost.Gap > outage {
		t.Errorf("the guest was out of reach for %s", lost.Gap)
	}
}

// announced waits for a RARP of ours. QEMU's own are over a second after it runs;
// ours are repeated for longer. Nothing in the guest's name comes before it runs.
func announced(t *testing.T, wire *testkit.Sniffer, guest string, ran time.Time) {
	t.Helper()
	mac := parseMAC(t, guest)
	for {
		f, ok := wire.Next(t, testkit.Patience)
		switch {
		case !ok:
			t.Fatal("the guest was not announced")
		case !bytes.Equal(f.Bytes[6:12], mac):
		case f.At.Before(ran):
			t.Errorf("%s before the guest's CPUs ran there was % x", ran.Sub(f.At), f.Bytes)
		case f.EtherType() == unix.ETH_P_RARP && f.At.Sub(ran) > 2*time.Second:
			return
		}
	}
}

// whenUp begins to watch a device that is still to come, and tells when it was
// first up.
func whenUp(t *testing.T, ns *testkit.Netns, ifname string) func() time.Time {
	t.Helper()
	var w *rtnl.Watch
	if err := ns.Do(func() (err error) { w, err = rtnl.OpenWatch(); return err }); err != nil {
		t.Fatal(err)
	}
	first := make(chan time.Time, 1)
	w.OnChange(func(int) {
		if l, ok := w.ByName(ifname); ok && l.Up {
			select {
			case first <- time.Now():
			default:
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-w.Ready()
	return func() time.Time {
		select {
		case at := <-first:
			return at
		case <-time.After(testkit.Patience):
			t.Fatalf("%s was never up", ifname)
			return time.Time{}
		}
	}
}

// movedSilent: the switch and all behind it hear nothing of what the guest says
// but that it was announced.
func movedSilent(m *moveBed, t *testing.T) {
	m.Mute(t, m.pings)
	costs := testkit.MeasureMigration(t, m.pings, m.a.Libvirtd, func() error { return m.guest.Migrate(m.a.Libvirtd, nil) })
	t.Logf("ours:          %s", costs[0])
	t.Logf("type='direct': %s", costs[1])
	m.arrived(t, m.b, m.a)
}
