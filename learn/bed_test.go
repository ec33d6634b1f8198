package learn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

// bed is a host with an uplink u0, whose far end is u1 of another namespace, and a
// Learner that runs.
type bed struct {
	host, far *testkit.Netns
	l         *Learner
	heard     chan Event
}

func newBed(t testing.TB) *bed {
	t.Helper()
	testkit.Require(t, "netns")
	b := &bed{host: testkit.NewNetns(t), far: testkit.NewNetns(t), heard: make(chan Event, 1<<16)}
	b.host.IPv6(t, false)
	b.far.IPv6(t, false)
	testkit.NewVeth(t, b.host, "u0", b.far, "u1")
	var err error
	if b.l, err = Open(b.host.Conn(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.l.Close() })
	b.run(t)
	return b
}

// run has the Learner run until the test ends.
func (b *bed) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- b.l.Run(ctx, func(e Event) { b.heard <- e }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (b *bed) index(t testing.TB, name string) int { return b.host.Link(t, name).Index }

// watch has the Learner listen to a guest on a device of the host.
func (b *bed) watch(t testing.TB, key, device, sends string, mac net.HardwareAddr, uplink int) {
	t.Helper()
	fd, err := OpenSocket(context.Background(), b.host.Conn(), b.index(t, device))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.l.Watch(Spec{Key: key, Fd: fd, Sends: sends, MAC: mac, Uplink: uplink}); err != nil {
		t.Fatal(err)
	}
}

// short is an event without the end of its lease.
func short(e Event) string {
	e.Until = time.Time{}
	return e.Key + " " + line(e)
}

// expect waits until something is told, and is all that was told until then.
func (b *bed) expect(t testing.TB, want string) (last Event, before []string) {
	t.Helper()
	told, before := b.expectAll(t, want)
	return told[want], before
}

// expectAll waits until several things are told, in whatever order.
func (b *bed) expectAll(t testing.TB, want ...string) (told map[string]Event, before []string) {
	t.Helper()
	told = map[string]Event{}
	for deadline := time.After(testkit.Patience); len(told) < len(want); {
		select {
		case e := <-b.heard:
			if slices.Contains(want, short(e)) {
				told[short(e)] = e
			} else {
				before = append(before, short(e))
			}
		case <-deadline:
			t.Fatalf("%q: not all is told; told:\n%s", want, strings.Join(before, "\n"))
		}
	}
	return told, before
}

// queue is a guest on a tap queue.
type queue struct {
	fd, header int
	mac        net.HardwareAddr
}

func (q queue) send(t testing.TB, frame []byte) {
	t.Helper()
	if _, err := unix.Write(q.fd, append(make([]byte, q.header), frame...)); err != nil {
		t.Fatalf("the guest cannot send: %v", err)
	}
}

// ask sends a frame, and again as a client does, until an answer comes that read
// makes sense of: a flood of others may push out either.
func (q queue) ask(t testing.TB, frame []byte, read func(frame []byte) bool) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(testkit.Patience); time.Now().Before(deadline); {
		q.send(t, frame)
		for again := time.Now().Add(500 * time.Millisecond); time.Now().Before(again); {
			n, err := unix.Read(q.fd, buf)
			switch {
			case err == nil && n >= q.header && read(buf[q.header:n]):
				return
			case err == nil:
			case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
				t.Fatalf("the guest cannot read: %v", err)
			default:
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLIN}}, 100)
			}
		}
	}
	t.Fatal("the guest gets no answer")
}

// macvtap makes a guest on a macvtap over u0, mv0.
func (b *bed) macvtap(t testing.TB) queue {
	g := b.host.NewFrameGuests(t, "u0", 1)[0]
	return queue{fd: g.FD, header: 10, mac: g.MAC}
}

// bridge puts u0 on a bridge br0.
func (b *bed) bridge(t testing.TB) {
	b.host.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	b.host.SetUp(t, "br0")
	b.host.Set(t, "u0", rtnl.Master(b.index(t, "br0")))
	b.host.WaitRunning(t, "br0")
}

// tap makes a guest on a tap of that name, on br0 where there is one.
func (b *bed) tap(t testing.TB, name string, mac net.HardwareAddr) queue {
	t.Helper()
	q := queue{mac: mac}
	err := b.host.Do(func() (err error) {
		if q.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return unix.IoctlIfreq(q.fd, unix.TUNSETIFF, ifr)
	})
	if err != nil {
		t.Fatalf("cannot make a tap: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(q.fd) })
	if br, err := b.host.Conn().LinkByName(context.Background(), "br0"); err == nil {
		b.host.Set(t, name, rtnl.Master(br.Index))
	}
	b.host.SetUp(t, name)
	b.host.WaitRunning(t, name)
	return q
}

// wire sends frames by a device of a namespace.
type wire struct{ fd, index int }

func openWire(t testing.TB, n *testkit.Netns, device string) wire {
	t.Helper()
	w := wire{index: n.Link(t, device).Index}
	err := n.Do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(w.fd) })
	return w
}

func (w wire) send(t testing.TB, frame []byte) {
	t.Helper()
	if err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index}); err != nil {
		t.Fatalf("cannot send: %v", err)
	}
}

// serve runs dnsmasq on a device of a namespace until the test ends; leases last
// two minutes, its least.
func serve(t testing.TB, n *testkit.Netns, device string) {
	t.Helper()
	n.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", device)
	testkit.ServeDHCP(t, n, device, "--dhcp-range=192.0.2.100,192.0.2.150,2m")
}

// lease has a guest take a lease of the server that is there. offered gets what it is
// offered before it asks for that.
func (q queue) lease(t testing.TB, offered func(netip.Addr)) netip.Addr {
	t.Helper()
	c := client{mac: q.mac, xid: rand.Uint32()}
	ask := func(message []byte, kind byte) (got dhcpMessage) {
		q.ask(t, message, func(f []byte) bool {
			_, etherType, payload := frame(f).split()
			d, ok := serverAnswer(payload)
			got = d
			return etherType == etherIPv4 && ok && d.xid == c.xid && d.kind == kind
		})
		return got
	}
	offer := ask(c.sends(dhcpDiscover, noIP), dhcpOffer)
	offered(offer.yiaddr)
	return ask(c.sends(dhcpRequest, noIP, optionIP(optRequested, offer.yiaddr), optionIP(optServer, offer.server)), dhcpAck).yiaddr
}

// learnLease has a guest take a lease, waits for what that is told by, and is what
// else was told, and how long after the guest had the lease all was told. An answer that comes by the uplink's socket may be read after what
// the guest sends next, and before what it answers.
func (b *bed) learnLease(t testing.TB, key string, q queue) (others []string, late time.Duration) {
	t.Helper()
	what := func(ip netip.Addr, how How) string { return fmt.Sprintf("%s %s by %s", key, ip, how) }
	leased := q.lease(t, func(ip netip.Addr) { _, others = b.expect(t, what(ip, ByOffer)) })
	had := time.Now()
	told, before := b.expectAll(t, what(leased, ByRequest), what(leased, ByLease))
	late = time.Since(had)
	if left := time.Until(told[what(leased, ByLease)].Until); left < time.Minute || left > 2*time.Minute {
		t.Errorf("the lease lasts %v", left)
	}
	return append(others, before...), late
}
