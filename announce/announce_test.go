package announce

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

// wire is a veth u0 whose far end hears everything.
type wire struct {
	a     *Announcer
	near  *testkit.Netns
	index int
	heard *testkit.Sniffer
	log   bytes.Buffer
}

func newWire(t interface {
	testkit.TB
	testkit.Skipper
}) *wire {
	t.Helper()
	testkit.Require(t, "netns")
	near, far := testkit.NewNetns(t), testkit.NewNetns(t)
	testkit.NewVeth(t, near, "u0", far, "far0")
	w := &wire{near: near, index: near.Link(t, "u0").Index, heard: far.Sniff(t, "far0", etherRARP, etherARP, etherIPv6)}
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	if err := near.Do(func() (err error) { w.a, err = Open(WithLog(log)); return err }); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = w.a.Close() })
	return w
}

// of is addresses with those MACs on u0.
func (w *wire) of(macs ...net.HardwareAddr) []Address {
	var list []Address
	for _, mac := range macs {
		list = append(list, Address{MAC: mac, Ifindex: w.index, Name: "vm/" + mac.String()})
	}
	return list
}

func always(list []Address) func() []Address { return func() []Address { return list } }

// round is the sources of all RARP frames that have come, in their order.
func (w *wire) round(t *testing.T) []string {
	t.Helper()
	var list []string
	for {
		f, ok := w.heard.Next(t, 50*time.Millisecond)
		if !ok {
			return list
		}
		if f.EtherType() == etherRARP {
			list = append(list, net.HardwareAddr(f.Bytes[6:12]).String())
		}
	}
}

func macs(n int) []net.HardwareAddr {
	list := make([]net.HardwareAddr, n)
	for i := range list {
		list[i] = net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}
	}
	return list
}

func words(macs []net.HardwareAddr) []string {
	var list []string
	for _, mac := range macs {
		list = append(list, mac.String())
	}
	return list
}

func TestTheFirstRoundIsOutWhenAnnounceReturns(t *testing.T) {
	w := newWire(t)
	list := w.of(guest)
	list[0].IPs = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	var told []vmnetd.Announcement
	seen := time.Now()
	w.a.Announce(Change{Key: "u0", Why: "failover a -> b", Seen: seen, Addresses: always(list), Done: func(d vmnetd.Announcement) { told = append(told, d) }})
	if len(told) != 1 || told[0].Guests != 1 || told[0].Of != 1 || told[0].Why != "failover a -> b" || !told[0].At.Equal(seen) ||
		told[0].FirstU < 0 || told[0].TookUs < told[0].FirstU || told[0].TookUs > time.Since(seen).Microseconds() {
		t.Errorf("%+v", told)
	}
	for _, want := range frames(list) {
		f, ok := w.heard.Next(t, testkit.Patience)
		for ok && !bytes.Equal(f.Bytes[6:12], guest) { // the kernel's own, of the device's IPv6
			f, ok = w.heard.Next(t, testkit.Patience)
		}
		if !ok || !bytes.Equal(f.Bytes, want.bytes) {
			t.Errorf("heard %x, want %x", f.Bytes, want.bytes)
		}
	}
}

func TestAThousandGuestsAreAnnouncedInTheirOrder(t *testing.T) {
	w := newWire(t)
	all := macs(1000)
	var told vmnetd.Announcement
	w.a.Announce(Change{Key: "u0", Addresses: always(w.of(all...)), Done: func(d vmnetd.Announcement) { told = d }})
	if got := w.round(t); !slices.Equal(got, words(all)) || told.Guests != 1000 {
		t.Errorf("%d frames heard, %+v", len(got), told)
	}
}

func TestADeviceThatRefusesStopsNoOther(t *testing.T) {
	w := newWire(t)
	testkit.NewVeth(t, w.near, "down0", w.near, "down1")
	down := w.near.Link(t, "down0").Index
	if err := w.near.Conn().SetUp(t.Context(), down, false); err != nil {
		t.Fatal(err)
	}
	all := macs(200)
	list := w.of(all...)
	var reached []string
	for i := range list {
		switch i % 3 {
		case 0:
			list[i].Ifindex = down
		case 1:
			list[i].Ifindex = 1 << 20 // there is none
		default:
			reached = append(reached, all[i].String())
		}
	}
	var told vmnetd.Announcement
	w.a.Announce(Change{Key: "wan", Addresses: always(list), Done: func(d vmnetd.Announcement) { told = d }})
	if got := w.round(t); !slices.Equal(got, reached) || told.Guests != len(reached) || told.Of != 200 {
		t.Errorf("%d of %d heard, %+v", len(got), len(reached), told)
	}
	for _, want := range []string{
		fmt.Sprintf("uplink=wan ifindex=%d guests=67 first=vm/02:00:00:01:00:00 err=\"network is down\"", down),
		"ifindex=1048576 guests=67 first=vm/02:00:00:01:00:01 err=\"no such device or address\"",
	} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("log lacks %s:\n%s", want, w.log.String())
		}
	}
}

func TestVMTheKernelTagsWhatLeavesByAVLANDevice(t *testing.T) {
	testkit.Require(t, "vm")
	w := newWire(t)
	vlan := w.near.Create(t, rtnl.NewLink{Name: "u0.7", Kind: "vlan", Lower: w.index, Data: []rtnl.Attr{{Type: 1, Value: []byte{7, 0}}}}) // IFLA_VLAN_ID
	w.near.SetUp(t, "u0.7")
	w.near.WaitRunning(t, "u0.7")
	w.a.Announce(Change{Key: "u0", Addresses: always([]Address{{MAC: guest, Ifindex: vlan.Index}})})
	for {
		f, ok := w.heard.Next(t, testkit.Patience)
		if !ok || bytes.Equal(f.Bytes[6:12], guest) {
			if !ok || f.VLAN != 7 || f.EtherType() != etherRARP {
				t.Errorf("heard %v, tag %d: %x", ok, f.VLAN, f.Bytes)
			}
			return
		}
	}
}

// inTime runs a test with a clock of its own, and the announcer's Run in it.
func inTime(t *testing.T, test func(t *testing.T, w *wire)) {
	t.Helper()
	testkit.Require(t, "netns")
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.a.Run(ctx) }()
		test(t, w)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAGuestIsAnnouncedAgainSixTimesAndNeverMore(t *testing.T) {
	inTime(t, func(t *testing.T, w *wire) {
		began := time.Now()
		w.a.Announce(Change{Key: "u0", Addresses: always(w.of(guest))})
		at := []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second}
		for _, want := range at {
			if want > 0 {
				time.Sleep(time.Until(began.Add(want - time.Millisecond)))
				synctest.Wait()
				if got := w.round(t); len(got) != 0 {
					t.Errorf("before %s: heard %v", want, got)
				}
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			if got := w.round(t); len(got) != 1 || got[0] != guest.String() {
				t.Errorf("after %s: heard %v", want, got)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := w.round(t); len(got) != 0 || len(w.a.schedule.byKey) != 0 || len(w.a.schedule.queue) != 0 {
			t.Errorf("later: heard %v, pending %v", got, w.a.schedule.byKey)
		}
	})
}

func TestANewerChangeTakesTheOldersPlace(t *testing.T) {
	inTime(t, func(t *testing.T, w *wire) {
		all := macs(3)
		w.a.Announce(Change{Key: "u0", Addresses: always(w.of(all[0]))})
		w.a.Announce(Change{Key: "u1", Addresses: always(w.of(all[1]))})
		time.Sleep(50 * time.Millisecond)
		w.a.Announce(Change{Key: "u0", Addresses: always(w.of(all[2]))})
		// One that was seen before the newest, and comes after it, has its round.
		w.a.Announce(Change{Key: "u0", Seen: time.Now().Add(-40 * time.Millisecond), Addresses: always(w.of(all[0]))})
		if got := w.round(t); !slices.Equal(got, words([]net.HardwareAddr{all[0], all[1], all[2], all[0]})) {
			t.Errorf("at once: %v", got)
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if got := w.round(t); !slices.Equal(got, words(all[1:2])) {
			t.Errorf("100 ms after the first: %v", got)
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if got := w.round(t); !slices.Equal(got, words(all[2:])) {
			t.Errorf("100 ms after the second: %v", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.round(t); len(got) != 10 || slices.Contains(got, all[0].String()) {
			t.Errorf("afterwards: %v", got)
		}
	})
}

func TestForgottenGuestsAreQuietAndAddressesAreAskedAgain(t *testing.T) {
	inTime(t, func(t *testing.T, w *wire) {
		all := macs(4)
		var here atomic.Pointer[[]Address]
		list := w.of(all[:3]...)
		here.Store(&list)
		w.a.Announce(Change{Key: "u0", Addresses: func() []Address { return *here.Load() }})
		w.round(t)
		w.a.Forget("u0", all[1])
		w.a.Forget("u0", all[0])
		w.a.Forget("nobody", all[2])
		more := w.of(all...) // one has come
		here.Store(&more)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := w.round(t); !slices.Equal(got, words(all[2:])) {
			t.Errorf("heard %v", got)
		}
		// A newer change is another matter.
		w.a.Announce(Change{Key: "u0", Addresses: always(more)})
		if got := w.round(t); !slices.Equal(got, words(all)) {
			t.Errorf("heard %v", got)
		}
	})
}

func TestRoundsThatAreOverdueAreNotMadeUpFor(t *testing.T) {
	inTime(t, func(t *testing.T, w *wire) {
		w.a.Announce(Change{Key: "u0", Seen: time.Now().Add(-2 * time.Second), Addresses: always(w.of(guest))})
		w.a.Announce(Change{Key: "u1", Seen: time.Now().Add(-time.Hour), Addresses: always(w.of(guest))})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.round(t); len(got) != 2+3 { // u0 after 3, 10 and 30 s
			t.Errorf("%d frames", len(got))
		}
	})
}

func TestAnnouncersAreUsedFromManyGoroutines(t *testing.T) {
	w := newWire(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.a.Run(ctx) }()
	var asked atomic.Int64
	done := make(chan struct{})
	for i := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range 50 {
				key := fmt.Sprint("u", (i+n)%5)
				w.a.Announce(Change{Key: key, Addresses: func() []Address { asked.Add(1); return w.of(guest) }})
				w.a.Forget(key, guest)
			}
		}()
	}
	for range 8 {
		<-done
	}
	cancel()
	if err := <-ended; err != nil || asked.Load() < 400 {
		t.Errorf("%v, %d", err, asked.Load())
	}
}

func TestNothingIsSentAfterClose(t *testing.T) {
	w := newWire(t)
	for range 2 {
		if err := w.a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.a.Announce(Change{Key: "u0", Addresses: always(w.of(guest)), Done: func(d vmnetd.Announcement) {
		if d.Guests != 0 || d.Of != 1 {
			t.Errorf("%+v", d)
		}
	}})
	if got := w.round(t); len(got) != 0 {
		t.Errorf("heard %v", got)
	}
}

func BenchmarkAnnounce(b *testing.B) {
	for _, n := range []int{1, 50, 200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWire(b)
			list := w.of(macs(n)...)
			for b.Loop() {
				w.a.Announce(Change{Key: "u0", Addresses: always(list)})
			}
		})
	}
}
