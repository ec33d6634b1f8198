package testkit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// FrameGuest is a guest of which only the queue of its NIC is there: it hears
// frames and says nothing, unless it is told to.
type FrameGuest struct {
	MAC net.HardwareAddr
	FD  int // the queue, with a virtio-net header of 10 bytes
}

// FrameGuestMAC is the MAC of the guest with that number.
func FrameGuestMAC(i int) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 0x00, 0xfa, byte(i >> 8), byte(i)}
}

// NewFrameGuests makes guests on macvtaps in bridge mode on a device, as they
// would be without vmnetd. Indexes of devices belong to a namespace and
// /dev/tapINDEX does not: these are random ones.
func (n *Netns) NewFrameGuests(t TB, lower string, count int) []FrameGuest {
	t.Helper()
	index := n.Link(t, lower).Index
	first := 1<<20 + rand.IntN(1<<30)
	guests := make([]FrameGuest, count)
	for i := range guests {
		link := rtnl.NewLink{
			Name: fmt.Sprintf("mv%d", i), Kind: "macvtap", Lower: index, Index: first + i,
			MAC: FrameGuestMAC(i), Data: rtnl.MacvlanMode("bridge"),
		}
		n.Create(t, link)
		fd, err := unix.Open(fmt.Sprintf("/dev/tap%d", link.Index), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatalf("cannot open the queue of %s: %v", link.Name, err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		n.SetUp(t, link.Name)
		guests[i] = FrameGuest{MAC: link.MAC, FD: fd}
	}
	for i := range guests {
		n.WaitRunning(t, fmt.Sprintf("mv%d", i))
	}
	return guests
}

// Speak has the guest send one frame to everybody: the switches learn where it
// is.
func (g FrameGuest) Speak(t TB) {
	t.Helper()
	TapWire(g.FD, virtioNetHeader).Send(t, Frame{Dst: Broadcast, Src: g.MAC, Text: "here"})
}

// virtioNetHeader is the bytes before a frame of a tap queue, unless
// TUNSETVNETHDRSZ said otherwise.
const virtioNetHeader = 10

// Stream sends every guest a frame at an interval, and notes what each hears.
type Stream struct {
	guests   []FrameGuest
	interval time.Duration
	began    time.Time
	sender   int // packet socket on the peer's device
	poll     int // epoll of the guests' queues
	stop     chan struct{}
	done     sync.WaitGroup

	mu   sync.Mutex
	mark time.Duration // when the failure was; 0: it is not over yet
	to   []reception
}

// reception is what one guest has heard; times are since the stream began.
type reception struct {
	last  time.Duration // of the last frame
	gap   time.Duration // the longest between two frames since Arm
	again bool          // one came that was sent after the mark
}

// Outage is what a failure cost one guest.
type Outage struct {
	Gap   time.Duration // the longest between two frames; until now when none has come
	Ended bool
}

// StartStream sends from a device of the peer until the test ends, or Stop.
func StartStream(t TB, peer *Netns, ifname string, guests []FrameGuest, interval time.Duration) *Stream {
	t.Helper()
	s := &Stream{guests: guests, interval: interval, began: time.Now(), stop: make(chan struct{}), to: make([]reception, len(guests))}
	source := peer.Link(t, ifname)
	err := peer.Do(func() (err error) {
		s.sender, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatalf("cannot open a packet socket: %v", err)
	}
	if s.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		t.Fatalf("epoll: %v", err)
	}
	for i, g := range guests {
		if err := unix.EpollCtl(s.poll, unix.EPOLL_CTL_ADD, g.FD, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			t.Fatalf("epoll: %v", err)
		}
	}
	s.done.Go(func() { s.send(source) })
	s.done.Go(s.hear)
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the stream. It may be called twice.
func (s *Stream) Stop() {
	select {
	case <-s.stop:
		return
	default:
	}
	close(s.stop)
	s.done.Wait()
	_ = unix.Close(s.sender)
	_ = unix.Close(s.poll)
}

// send spreads the guests evenly over the interval.
func (s *Stream) send(source rtnl.Link) {
	to := &unix.SockaddrLinklayer{Ifindex: source.Index, Halen: 6}
	tick := time.NewTicker(tickOf(s.interval, len(s.guests)))
	defer tick.Stop()
	for sent := 0; ; {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		due := int(int64(time.Since(s.began)) * int64(len(s.guests)) / int64(s.interval))
		// One who was kept from running does not make up for it.
		for sent = max(sent, due-len(s.guests)); sent < due; sent++ {
			g := s.guests[sent%len(s.guests)]
			b := s.frame(g.MAC, source.MAC)
			copy(to.Addr[:], g.MAC)
			_ = unix.Sendto(s.sender, b, 0, to) // a frame that is not sent is one not heard
		}
	}
}

func tickOf(interval time.Duration, guests int) time.Duration {
	return max(interval/time.Duration(guests), time.Millisecond)
}

// stampAt is where the time of sending is in a frame, ns since the stream began.
const stampAt = 14

func (s *Stream) frame(dst, src net.HardwareAddr) []byte {
	b := append(append(make([]byte, 0, 60), dst...), src...)
	b = binary.BigEndian.AppendUint16(b, EtherTest)
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(s.began)))
	return append(b, make([]byte, 60-len(b))...)
}

// hear reads the queues of all guests.
func (s *Stream) hear() {
	events := make([]unix.EpollEvent, 64)
	buf := make([]byte, 1<<16)
	const look = 50 // ms until it is asked whether to stop
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		n, err := unix.EpollWait(s.poll, events, look)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, e := range events[:max(n, 0)] {
			s.drain(int(e.Fd), buf)
		}
	}
}

func (s *Stream) drain(guest int, buf []byte) {
	for {
		n, err := unix.Read(s.guests[guest].FD, buf)
		if err != nil {
			return
		}
		b := buf[min(n, virtioNetHeader):n]
		if len(b) < 60 || binary.BigEndian.Uint16(b[12:]) != EtherTest || b[0]&1 != 0 {
			continue
		}
		s.heard(guest, time.Duration(binary.BigEndian.Uint64(b[stampAt:])))
	}
}

func (s *Stream) heard(guest int, sent time.Duration) {
	now := time.Since(s.began)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.to[guest]
	if !r.again { // what comes afterwards is no part of the outage
		r.gap = max(r.gap, now-r.last)
	}
	r.last = now
	r.again = r.again || s.mark != 0 && sent >= s.mark
}

// Arm comes before a failure: gaps count from here on.
func (s *Stream) Arm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = 0
	for i := range s.to {
		s.to[i].gap, s.to[i].again = 0, false
	}
}

// Mark comes after it: an outage is over when something is heard that was sent
// from here on.
func (s *Stream) Mark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = time.Since(s.began)
}

// Everybody waits until every guest hears the stream: what was sent since the
// mark, where there is one. false when it takes longer than within.
func (s *Stream) Everybody(within time.Duration) bool {
	for deadline := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		if s.all() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func (s *Stream) all() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.to {
		if r.last == 0 || s.mark != 0 && !r.again {
			return false
		}
	}
	return true
}

// Outages is what the failure has cost each guest until now.
func (s *Stream) Outages() []Outage {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Outage, len(s.to))
	for i, r := range s.to {
		list[i] = Outage{Gap: r.gap, Ended: r.again}
		if !r.again {
			list[i].Gap = max(r.gap, time.Since(s.began)-r.last)
		}
	}
	return list
}
