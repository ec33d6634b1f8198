package learn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAGuestOnAMacvtapIsHeardToLease(t *testing.T) {
	for _, at := range []string{"its device", "the uplink"} {
		t.Run("answers on "+at, func(t *testing.T) {
			b := newBed(t)
			serve(t, b.far, "u1")
			q := b.macvtap(t)
			uplink := 0
			if at == "the uplink" {
				uplink = b.index(t, "u0")
			}
			b.watch(t, "vm/nic", "mv0", egress, q.mac, uplink)
			b.learnLease(t, "vm/nic", q)
		})
	}
}

func TestAGuestOnATapIsHeardToLease(t *testing.T) {
	b := newBed(t)
	b.bridge(t)
	serve(t, b.far, "u1")
	q := b.tap(t, "tap0", guestMAC)
	b.watch(t, "vm/nic", "tap0", ingress, q.mac, 0)
	b.learnLease(t, "vm/nic", q)
}

// station is a guest that is the kernel's own stack, on g0; the host has h0.
func (b *bed) station(t testing.TB) *testkit.Netns {
	guest := testkit.NewNetns(t)
	testkit.NewVeth(t, b.host, "h0", guest, "g0")
	b.watch(t, "vm/nic", "h0", ingress, guest.Link(t, "g0").MAC, 0)
	return guest
}

func TestARealClientsLeaseAndProbeAreHeard(t *testing.T) {
	b := newBed(t)
	guest := b.station(t)
	serve(t, b.host, "h0")
	guest.Run(t, "busybox", "udhcpc", "-i", "g0", "-f", "-q", "-n", "-a100", "-s", "/bin/true")
	leased := noIP
	for deadline := time.After(testkit.Patience); leased == noIP; {
		select {
		case e := <-b.heard:
			if e.How == ByOffer {
				leased = e.IP
			}
		case <-deadline:
			t.Fatal("no offer is told")
		}
	}
	for _, what := range []How{ByRequest, ByLease, ByProbe} {
		b.expect(t, fmt.Sprintf("vm/nic %s by %s", leased, what))
	}
}

func TestDADOfARealStackIsHeardAndWhoDefends(t *testing.T) {
	b := newBed(t)
	guest := b.station(t)
	guest.Run(t, "ip", "address", "add", "2001:db8::7/64", "dev", "g0")
	b.expect(t, "vm/nic 2001:db8::7 by DAD")

	guest.Run(t, "ip", "link", "set", "g0", "down")
	b.host.Run(t, "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/h0/disable_ipv6")
	b.host.Run(t, "ip", "address", "add", "2001:db8::8/64", "dev", "h0", "nodad")
	guest.SetUp(t, "g0")
	guest.Run(t, "ip", "address", "add", "2001:db8::8/64", "dev", "g0")
	b.expect(t, "vm/nic 2001:db8::8 by DAD")
	b.expect(t, "vm/nic 2001:db8::8 by DAD defended")
}

// TestGuestsThatShareAMACAreToldApart has two guests as on one uplink of ipvtap.
func TestGuestsThatShareAMACAreToldApart(t *testing.T) {
	b := newBed(t)
	one, two := b.tap(t, "tap1", guestMAC), b.tap(t, "tap2", guestMAC)
	uplink := b.index(t, "u0")
	b.watch(t, "one/nic", "tap1", ingress, guestMAC, uplink)
	b.watch(t, "two/nic", "tap2", ingress, guestMAC, uplink)
	w := openWire(t, b.far, "u1")
	c1, c2 := client{mac: guestMAC, xid: 7, id: "one"}, client{mac: guestMAC, xid: 7, id: "two"}
	for i, q := range []queue{one, two} {
		c := []client{c1, c2}[i]
		q.send(t, c.sends(dhcpDiscover, noIP))
		q.send(t, arp(opRequest, guestMAC, ip("10.9.9.9"), noIP))
		b.expect(t, c.id+"/nic 10.9.9.9 by ARP") // and the other was heard before
	}
	for _, frame := range [][]byte{
		client{mac: guestMAC, xid: 7, id: "three"}.gets(dhcpOffer, ip("192.0.2.3")),
		client{mac: guestMAC, xid: 9, id: "one"}.gets(dhcpOffer, ip("192.0.2.9")),
		c2.gets(dhcpOffer, ip("192.0.2.2")), c1.gets(dhcpOffer, ip("192.0.2.1")),
	} {
		w.send(t, frame)
	}
	_, first := b.expect(t, "two/nic 192.0.2.2 by DHCP offer")
	_, second := b.expect(t, "one/nic 192.0.2.1 by DHCP offer")
	if len(first)+len(second) > 0 {
		t.Errorf("told, too: %v %v", first, second)
	}
}

func TestALeasesEndIsTold(t *testing.T) {
	b := newBed(t)
	q := b.tap(t, "tap0", guestMAC)
	b.watch(t, "vm/nic", "tap0", ingress, guestMAC, b.index(t, "u0"))
	c, w := client{mac: guestMAC, xid: 7}, openWire(t, b.far, "u1")
	q.send(t, c.sends(dhcpRequest, ip("192.0.2.7")))
	b.expect(t, "vm/nic 192.0.2.7 by DHCP request")
	sent := time.Now()
	w.send(t, c.gets(dhcpAck, ip("192.0.2.7"), leaseTime(1)))
	e, _ := b.expect(t, "vm/nic 192.0.2.7 by DHCP lease")
	b.expect(t, "vm/nic 192.0.2.7 by DHCP lease gone: its lease has ended")
	if now := time.Now(); now.Before(e.Until) || e.Until.Sub(sent) < time.Second {
		t.Errorf("ended %v too early, %v after it was given", e.Until.Sub(now), e.Until.Sub(sent))
	}
}

func TestTheEndOfALeaseFromBeforeARestartIsTold(t *testing.T) {
	b := newBed(t)
	b.tap(t, "tap0", guestMAC)
	fd, err := OpenSocket(t.Context(), b.host.Conn(), b.index(t, "tap0"))
	if err != nil {
		t.Fatal(err)
	}
	leases := map[netip.Addr]time.Time{ip("192.0.2.7"): time.Now().Add(50 * time.Millisecond).Round(0), ip("192.0.2.8"): time.Now().Add(-time.Hour)}
	if err := b.l.Watch(Spec{Key: "vm/nic", Fd: fd, Sends: ingress, MAC: guestMAC, Leases: leases}); err != nil {
		t.Fatal(err)
	}
	b.expect(t, "vm/nic 192.0.2.8 by DHCP lease gone: its lease has ended")
	b.expect(t, "vm/nic 192.0.2.7 by DHCP lease gone: its lease has ended")
}

func TestADeviceThatGoesDownIsHeardAgainAndOneThatGoesAwayIsSilent(t *testing.T) {
	b := newBed(t)
	q := b.macvtap(t)
	b.watch(t, "vm/nic", "mv0", egress, q.mac, b.index(t, "u0"))
	b.host.SetDown(t, "mv0")
	b.host.SetUp(t, "mv0")
	q.send(t, arp(opRequest, q.mac, ip("192.0.2.7"), noIP))
	b.expect(t, "vm/nic 192.0.2.7 by ARP")

	b.tap(t, "tap0", guestMAC)
	b.watch(t, "other/nic", "tap0", ingress, guestMAC, b.index(t, "u0"))
	b.host.Delete(t, "tap0")
	q.send(t, arp(opRequest, q.mac, ip("192.0.2.8"), noIP))
	b.expect(t, "vm/nic 192.0.2.8 by ARP")
}

// TestAnErrorOfASocketComesOnce is why one that is listened to does not spin.
func TestAnErrorOfASocketComesOnce(t *testing.T) {
	b := newBed(t)
	b.tap(t, "tap0", guestMAC)
	fd, err := OpenSocket(t.Context(), b.host.Conn(), b.index(t, "tap0"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.add(fd); err != nil {
		t.Fatal(err)
	}
	b.host.SetDown(t, "tap0")
	ready, err := p.wait()
	if err != nil || !slices.Equal(ready, []int{fd}) {
		t.Fatalf("%v, %v", ready, err)
	}
	var got batch
	if _, err := got.receive(fd); !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("%v", err)
	}
	for _, do := range []func(){func() {}, func() { b.host.Delete(t, "tap0") }} {
		do()
		p.until(time.Now().Add(20 * time.Millisecond))
		if ready, err := p.wait(); err != nil || len(ready) > 0 {
			t.Errorf("%v, %v", ready, err)
		}
	}
	if index := boundTo(fd); index != -1 {
		t.Errorf("bound to %d", index)
	}
}

// open counts packet sockets of this process.
func open() int {
	n := 0
	for _, fd := range testkit.OpenFDs() {
		number := 0
		if _, err := fmt.Sscan(fd, &number); err != nil {
			continue
		}
		if family, err := unix.GetsockoptInt(number, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && family == unix.AF_PACKET {
			n++
		}
	}
	return n
}

func TestAnUplinkIsListenedToWhileItHasGuests(t *testing.T) {
	b := newBed(t)
	b.tap(t, "tap1", guestMAC)
	b.tap(t, "tap2", guestMAC)
	uplink, before := b.index(t, "u0"), open()
	for _, step := range []struct {
		what string
		do   func()
		want int
	}{
		{"one guest", func() { b.watch(t, "one/nic", "tap1", ingress, guestMAC, uplink) }, 2},
		{"two guests", func() { b.watch(t, "two/nic", "tap2", ingress, guestMAC, uplink) }, 3},
		{"one anew", func() { b.watch(t, "one/nic", "tap1", ingress, guestMAC, uplink) }, 3},
		{"one without the uplink", func() { b.watch(t, "one/nic", "tap1", ingress, guestMAC, 0) }, 3},
		{"the other forgotten", func() { b.l.Forget("two/nic") }, 1},
		{"forgotten twice", func() { b.l.Forget("two/nic"); b.l.Forget("nobody/nic") }, 1},
		{"closed", func() { _ = b.l.Close(); _ = b.l.Close() }, 0},
	} {
		step.do()
		b.l.sockets.wait()
		if got := open() - before; got != step.want {
			t.Errorf("%s: %d sockets, want %d", step.what, got, step.want)
		}
	}
	if len(b.l.uplinks)+len(b.l.ears)+len(b.l.guests)+len(b.l.alarms.queue) != 0 {
		t.Errorf("left: %v %v %v", b.l.uplinks, b.l.ears, b.l.guests)
	}
}

func TestAnUplinkThatHasGoneIsOpenedAnew(t *testing.T) {
	b := newBed(t)
	b.tap(t, "tap1", guestMAC)
	q := b.tap(t, "tap2", guestMAC)
	uplink := b.index(t, "u0")
	b.watch(t, "one/nic", "tap1", ingress, guestMAC, uplink)
	b.host.Delete(t, "u0")
	b.host.Create(t, rtnl.NewLink{Name: "u0", Kind: "veth", Index: uplink, Data: rtnl.VethPeer("u1", b.far.NS())})
	b.host.SetUp(t, "u0")
	b.far.SetUp(t, "u1")
	b.far.WaitRunning(t, "u1")
	b.watch(t, "two/nic", "tap2", ingress, guestMAC, uplink)
	b.l.Forget("one/nic") // it was on the former
	c := client{mac: guestMAC, xid: 7}
	q.send(t, c.sends(dhcpRequest, ip("192.0.2.7")))
	b.expect(t, "two/nic 192.0.2.7 by DHCP request")
	openWire(t, b.far, "u1").send(t, c.gets(dhcpAck, ip("192.0.2.7")))
	b.expect(t, "two/nic 192.0.2.7 by DHCP lease")
}

func TestWatchTakesTheDescriptorOverAlsoWhenItFails(t *testing.T) {
	b := newBed(t)
	b.tap(t, "tap0", guestMAC)
	before := open()
	good := Spec{Key: "vm/nic", Sends: ingress, MAC: guestMAC}
	for name, c := range map[string]struct {
		edit  func(*Spec)
		class error
		text  string
	}{
		"no such uplink":   {func(s *Spec) { s.Uplink = 1 << 20 }, vmnetd.ErrNotFound, "there is no device with ifindex 1048576"},
		"no direction":     {func(s *Spec) { s.Sends = "" }, vmnetd.ErrInvalid, "egress or ingress"},
		"no packet socket": {func(s *Spec) { _ = unix.Close(s.Fd); s.Fd, _ = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) }, vmnetd.ErrInvalid, "is no packet socket"},
		"closed Learner":   {nil, vmnetd.ErrFailed, "has ended"},
	} {
		l, err := Open(b.host.Conn(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s := good
		if s.Fd, err = OpenSocket(t.Context(), b.host.Conn(), b.index(t, "tap0")); err != nil {
			t.Fatal(err)
		}
		if c.edit == nil {
			_ = l.Close()
		} else {
			c.edit(&s)
		}
		err = l.Watch(s)
		if !errors.Is(err, c.class) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		l.sockets.wait()
		if now := open(); now != before || len(l.uplinks)+len(l.ears) > 0 {
			t.Errorf("%s: %d sockets are open, %d before; %v %v", name, now, before, l.uplinks, l.ears)
		}
		_ = l.Close()
	}
	if _, err := OpenSocket(t.Context(), b.host.Conn(), 1<<20); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestRunEndsWithItsContextAndWithClose(t *testing.T) {
	testkit.Require(t, "netns")
	n := testkit.NewNetns(t)
	for range 50 { // it may end at any moment
		l, err := Open(n.Conn(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range []func(context.CancelFunc){func(cancel context.CancelFunc) { cancel() }, func(context.CancelFunc) { _ = l.Close() }} {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- l.Run(ctx, func(Event) {}) }()
			end(cancel)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			cancel()
		}
	}
}

// tagged is a frame in a VLAN.
func tagged(b []byte) []byte { return slices.Concat(b[:12], []byte{0x81, 0, 0, 7}, b[12:]) }

func TestTheKernelDropsWhatDoesNotMatter(t *testing.T) {
	b := newBed(t)
	testkit.NewVeth(t, b.host, "h0", b.far, "g0") // the guest is on g0
	out, in := openWire(t, b.host, "h0"), openWire(t, b.far, "g0")
	a, v6, c := ip("192.0.2.7"), ip("2001:db8::7"), client{mac: guestMAC, xid: 7}
	dns := ethernet(everyone, guestMAC, etherIPv4, udp4(a, 67, broadcast, 53, make([]byte, 300)))
	fragment := edited(c.sends(dhcpDiscover, noIP), etherHeader+6, 0x20)
	frames := map[string][]byte{
		"request": arp(opRequest, guestMAC, a, a), "reply": arp(opReply, guestMAC, a, a), "NA": nd(advertisement, guestMAC, v6, v6, v6, guestMAC),
		"NS": dad(guestMAC, v6), "to server": c.sends(dhcpDiscover, noIP), "to client": c.gets(dhcpOffer, a), "other's": arp(opReply, otherMAC, a, a),
		"DNS": dns, "fragment": fragment, "RS": edited(nd(advertisement, guestMAC, v6, v6, v6, guestMAC), etherHeader+ipv6Header, 133),
		"RARP": ethernet(everyone, guestMAC, 0x8035, arp(opRequest, guestMAC, a, a)[etherHeader:]),
	}
	for name, f := range maps.Clone(frames) {
		frames["tagged "+name] = tagged(f)
	}
	all := []string{"NA", "NS", "other's", "reply", "request", "to client", "to server"}
	for _, program := range []struct {
		name          string
		sends         string // "": as OpenSocket made it
		came, carried []string
	}{
		{"of any guest", "", all, all},
		{"of a guest that sends by ingress", ingress, []string{"NA", "NS", "reply", "request", "to server"}, []string{"NA", "other's", "reply", "to client"}},
		{"of a guest that sends by egress", egress, []string{"NA", "other's", "reply", "to client"}, []string{"NA", "NS", "reply", "request", "to server"}},
	} {
		for _, way := range []struct {
			w    wire
			want []string
		}{{in, program.came}, {out, program.carried}} {
			fd, err := OpenSocket(t.Context(), b.host.Conn(), b.index(t, "h0"))
			if err == nil && program.sends != "" {
				err = narrow(Spec{Fd: fd, Sends: program.sends, MAC: guestMAC})
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := passing(t, fd, way.w, frames, arp(opReply, guestMAC, ip("192.0.2.99"), a)); !slices.Equal(got, way.want) {
				t.Errorf("%s: %v, want %v", program.name, got, way.want)
			}
			_ = unix.Close(fd)
		}
	}
	fd, err := openSocket(b.host.Conn(), b.index(t, "h0"), uplinkBuffer, serverAnswers())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if got := passing(t, fd, in, frames, c.gets(dhcpOffer, ip("192.0.2.99"))); !slices.Equal(got, []string{"to client"}) {
		t.Errorf("of an uplink: %v", got)
	}
}

// passing is the names of those frames that a socket gets when they are sent; what
// comes last must pass.
func passing(t *testing.T, fd int, w wire, frames map[string][]byte, last []byte) []string {
	t.Helper()
	names := map[string]string{}
	for name, f := range frames {
		names[string(f)] = name
		w.send(t, f)
	}
	w.send(t, last)
	var got []string
	var b batch
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(testkit.Patience.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		n, err := b.receive(fd)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			f, _ := b.frame(i)
			if slices.Equal(f, last) {
				slices.Sort(got)
				return got
			}
			got = append(got, names[string(f)])
		}
	}
}
