package learn

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// inUse is what the heap holds, in bytes.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAFloodOfOneGuestHarmsNoOther(t *testing.T) {
	b := newBed(t)
	b.bridge(t)
	serve(t, b.far, "u1")
	bad, good := b.tap(t, "tap1", otherMAC), b.tap(t, "tap2", guestMAC)
	b.watch(t, "bad/nic", "tap1", ingress, otherMAC, b.index(t, "u0"))
	b.watch(t, "good/nic", "tap2", ingress, guestMAC, b.index(t, "u0"))
	goroutines, memory, start := runtime.NumGoroutine(), inUse(), time.Now()

	stop, flooded := make(chan struct{}), make(chan int)
	go func() {
		sent := 0
		for ; ; sent++ {
			select {
			case <-stop:
				flooded <- sent
				return
			default:
			}
			a := netip.AddrFrom4([4]byte{10, byte(sent >> 16), byte(sent >> 8), byte(sent)})
			_, _ = unix.Write(bad.fd, arp(opRequest, otherMAC, a, a))
			if sent == 10_000 {
				flooded <- sent
			}
		}
	}()
	<-flooded
	floods, late := b.learnLease(t, "good/nic", good)
	if late > time.Second {
		t.Errorf("the lease is told %v after the guest had it", late)
	}
	if now := runtime.NumGoroutine(); now > goroutines+1 {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
	if now := inUse(); now > memory+1<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", memory, now)
	}
	close(stop)
	sent, took := <-flooded, time.Since(start)
	if most := int(took/time.Second+1) * EventsPerSecond; len(floods) > most || len(floods) == 0 {
		t.Errorf("%d events of the flood in %v", len(floods), took)
	}
	t.Logf("%d frames in %v, %d told", sent, took, len(floods))
}

// TestAfterAFloodAGuestIsHeardAgain shows that the socket is not given up, and that
// what was queued is not told late.
func TestAfterAFloodAGuestIsHeardAgain(t *testing.T) {
	b := newBed(t)
	q := b.tap(t, "tap0", guestMAC)
	b.watch(t, "vm/nic", "tap0", ingress, guestMAC, 0)
	deaf := func() bool {
		b.l.mu.Lock()
		defer b.l.mu.Unlock()
		return !b.l.guests["vm/nic"].ear.alarm.at.IsZero()
	}
	for deadline := time.Now().Add(testkit.Patience); !deaf(); {
		if time.Now().After(deadline) {
			t.Fatal("a flood is listened to")
		}
		q.send(t, arp(opRequest, guestMAC, ip("192.0.2.7"), noIP))
	}
	q.send(t, arp(opRequest, guestMAC, ip("192.0.2.8"), noIP)) // nobody listens
	for deadline := time.Now().Add(testkit.Patience); deaf(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guest is not listened to any more")
		}
	}
	q.send(t, arp(opRequest, guestMAC, ip("192.0.2.9"), noIP))
	if _, before := b.expect(t, "vm/nic 192.0.2.9 by ARP"); len(before) != 1 {
		t.Errorf("told before: %v", before)
	}
}

func TestGuestsComeAndGoWhileTheyAreHeard(t *testing.T) {
	b := newBed(t)
	q := b.tap(t, "tap0", guestMAC)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = unix.Write(q.fd, arp(opRequest, guestMAC, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), noIP))
			}
		}
	}()
	gone := make(chan struct{})
	for _, key := range []string{"one/nic", "two/nic"} {
		go func() {
			defer func() { gone <- struct{}{} }()
			for range 100 {
				b.watch(t, key, "tap0", ingress, guestMAC, b.index(t, "u0"))
				b.l.Forget(key)
			}
		}()
	}
	<-gone
	<-gone
	close(stop)
	<-done
	b.watch(t, "vm/nic", "tap0", ingress, guestMAC, 0)
	q.send(t, arp(opRequest, guestMAC, ip("192.0.2.9"), noIP))
	b.expect(t, "vm/nic 192.0.2.9 by ARP")
}

// BenchmarkFrame is what hearing one frame costs that was received.
func BenchmarkFrame(b *testing.B) {
	c := client{mac: guestMAC, xid: 7, id: "\x01abcdef"}
	for name, frame := range map[string][]byte{
		"ARP":     arp(opRequest, guestMAC, ip("192.0.2.7"), ip("192.0.2.1")),
		"DAD":     dad(guestMAC, ip("fe80::1")),
		"REQUEST": c.sends(dhcpRequest, ip("192.0.2.7")),
	} {
		b.Run(name, func(b *testing.B) {
			g := testGuest(b)
			g.sent.perSecond = 1 << 30
			b.ReportAllocs()
			for b.Loop() {
				g.hear(frame, true, began)
				g.news.take(began)
			}
		})
	}
}

// BenchmarkSocket is what a frame costs from a guest's write until it was heard.
func BenchmarkSocket(b *testing.B) {
	bed := newBed(b)
	q := bed.tap(b, "tap0", guestMAC)
	fd, err := OpenSocket(b.Context(), bed.host.Conn(), bed.index(b, "tap0"))
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	frame, got := arp(opRequest, guestMAC, ip("192.0.2.7"), noIP), batch{}
	for b.Loop() {
		for range batchSize {
			q.send(b, frame)
		}
		for n := 0; n < batchSize; {
			some, err := got.receive(fd)
			if err != nil {
				b.Fatal(err)
			}
			n += some
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batchSize, "ns/frame")
}

// BenchmarkTraffic is what a device's traffic costs with a socket on it that wants
// none of it, and without: by turns, since others use the machine too.
func BenchmarkTraffic(b *testing.B) {
	for _, kind := range []string{"tap", "macvtap"} {
		b.Run(kind, func(b *testing.B) {
			bed := newBed(b)
			q, device, sends := queue{}, "mv0", egress
			if kind == "tap" {
				bed.bridge(b)
				q, device, sends = bed.tap(b, "tap0", guestMAC), "tap0", ingress
			} else {
				q = bed.macvtap(b)
			}
			frame := ethernet(otherMAC, q.mac, etherIPv4, udp4(ip("192.0.2.7"), 5001, ip("192.0.2.8"), 5001, make([]byte, 1400)))
			const turn = 2000
			send := func(best *time.Duration) {
				began := time.Now()
				for range turn {
					q.send(b, frame)
				}
				*best = min(*best, time.Since(began))
			}
			alone, listened := time.Hour, time.Hour
			for b.Loop() {
				send(&alone)
				bed.watch(b, "vm/nic", device, sends, q.mac, 0)
				send(&listened)
				bed.l.Forget("vm/nic")
				bed.l.sockets.wait()
			}
			b.ReportMetric(float64(alone.Nanoseconds())/turn, "ns/frame-alone")
			b.ReportMetric(float64(listened.Nanoseconds())/turn, "ns/frame-listened")
		})
	}
}
