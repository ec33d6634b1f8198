package announce

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

var guest = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}

func TestFramesAreAsTheStandardsHaveThem(t *testing.T) {
	list := frames(Address{MAC: guest, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}})
	want := []string{
		"ffffffffffff525400010203" + "8035" + "0001080006040003" + "525400010203" + "00000000" + "525400010203" + "00000000",
		"ffffffffffff525400010203" + "0806" + "0001080006040001" + "525400010203" + "c0000207" + "000000000000" + "c0000207",
		"333300000001525400010203" + "86dd" + "6000000000203aff" + "20010db8000000000000000000000007" + "ff020000000000000000000000000001" + "8800",
	}
	if len(list) != len(want) {
		t.Fatalf("%d frames", len(list))
	}
	for i, w := range want {
		if got := hex.EncodeToString(list[i]); got[:len(w)] != w || len(list[i]) < shortest {
			t.Errorf("frame %d: %s, want %s...", i, got, w)
		}
	}
	// The sum over pseudo header and message, checksum included, is zero.
	na := list[2]
	pseudo := append(bytes.Clone(na[22:54]), 0, 0, 0, 32, 0, 0, 0, 58)
	if sum := checksum(append(pseudo, na[54:]...)); sum != 0 {
		t.Errorf("checksum is off by %04x", sum)
	}
}

// wire is a veth whose far end hears everything.
type wire struct {
	a     *Announcer
	index int
	fd    int
}

func newWire(t *testing.T) *wire {
	t.Helper()
	testkit.Require(t, "netns")
	near, far := testkit.NewNetns(t), testkit.NewNetns(t)
	testkit.NewVeth(t, near, "u0", far, "far0")
	w := &wire{index: near.Link(t, "u0").Index}
	if err := near.Do(func() (err error) { w.a, err = Open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.a.Close() })
	err := far.Do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x3580) // ETH_P_RARP in network order
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(w.fd) })
	tv := unix.NsecToTimeval(testkit.Patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	return w
}

// next is the source of the next RARP frame.
func (w *wire) next(t *testing.T) string {
	t.Helper()
	b := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(w.fd, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n >= shortest {
			return net.HardwareAddr(b[6:12]).String()
		}
	}
}

func TestAGuestIsAnnouncedAtOnceAndAgain(t *testing.T) {
	w := newWire(t)
	told := make(chan vmnetd.Announcement, 1)
	w.a.Announce(Change{Key: "u0", Why: "failover a -> b", Seen: time.Now(), Done: func(d vmnetd.Announcement) { told <- d },
		Addresses: func() []Address {
			return []Address{{MAC: guest, Ifindex: w.index}, {MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Ifindex: 1 << 20}}
		}})
	if done := <-told; done.Guests != 1 || done.Of != 2 || done.Why != "failover a -> b" || done.FirstU < 0 {
		t.Errorf("%+v", done)
	}
	for range 3 { // at once, after 100 ms, after 300 ms
		if got := w.next(t); got != guest.String() {
			t.Errorf("from %s", got)
		}
	}
}

func TestANewerChangeReplacesTheOlderAndForgottenMACsAreQuiet(t *testing.T) {
	w := newWire(t)
	other, third := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	of := func(macs ...net.HardwareAddr) func() []Address {
		return func() (list []Address) {
			for _, mac := range macs {
				list = append(list, Address{MAC: mac, Ifindex: w.index})
			}
			return list
		}
	}
	w.a.Announce(Change{Key: "u0", Seen: time.Now(), Addresses: of(guest)})
	w.a.Announce(Change{Key: "u0", Seen: time.Now(), Addresses: of(other, third)})
	w.a.Forget("u0", other)
	w.a.Forget("nobody", other)
	var got []string
	for range 5 {
		got = append(got, w.next(t))
	}
	want := []string{guest.String(), other.String(), third.String(), third.String(), third.String()}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("heard %v, want %v", got, want)
		}
	}
}

func TestNothingIsSentAfterClose(t *testing.T) {
	w := newWire(t)
	if err := w.a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.a.Close(); err != nil {
		t.Error(err)
	}
	w.a.Announce(Change{Key: "u0", Addresses: func() []Address { t.Error("asked"); return nil }})
	runtime.KeepAlive(w)
}

func BenchmarkAnnounce200(b *testing.B) {
	testkit.Require(b, "netns")
	near, far := testkit.NewNetns(b), testkit.NewNetns(b)
	testkit.NewVeth(b, near, "u0", far, "far0")
	var a *Announcer
	if err := near.Do(func() (err error) { a, err = Open(); return err }); err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	list := make([]Address, 200)
	for i := range list {
		list[i] = Address{MAC: net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}, Ifindex: near.Link(b, "u0").Index}
	}
	for b.Loop() {
		a.Announce(Change{Key: "u0", Seen: time.Now(), Addresses: func() []Address { return list }})
	}
}
