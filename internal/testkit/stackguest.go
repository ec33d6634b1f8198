package testkit

import (
	"errors"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// StackGuest is a guest without a QEMU that has Linux's own network stack: a
// network namespace whose device eth0 is wired to the queues of a tap device,
// frame by frame. What a guest's kernel does by itself, it does.
type StackGuest struct {
	*Netns
	wire *wire
}

// GuestDevice is the name of a StackGuest's device.
const GuestDevice = "eth0"

// NewStackGuest wires a new namespace to queues that have a virtio-net header of
// header bytes (10 unless TUNSETVNETHDRSZ said otherwise); mac is the guest's. The
// queues stay the caller's and must be open until the test ends. eth0 is up, with
// IPv6 as ipv6 says.
func NewStackGuest(t TB, queues []int, header int, mac net.HardwareAddr, ipv6 bool) *StackGuest {
	t.Helper()
	g := &StackGuest{Netns: NewNetns(t)}
	g.IPv6(t, ipv6)
	var tap int
	if err := g.Do(func() (err error) { tap, err = openTap(GuestDevice); return err }); err != nil {
		t.Fatalf("cannot make the guest's %s: %v", GuestDevice, err)
	}
	w, err := newWire(tap, queues, header)
	if err != nil {
		t.Fatalf("cannot wire the guest: %v", err)
	}
	g.wire = w
	t.Cleanup(g.Unplug)
	g.Set(t, GuestDevice, rtnl.MAC(mac))
	g.SetUp(t, GuestDevice)
	g.SetUp(t, "lo")
	g.WaitRunning(t, GuestDevice)
	return g
}

// Unplug ends the guest's wire: its queues may be closed. It may be called twice.
func (g *StackGuest) Unplug() { g.wire.close() }

func openTap(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// wire carries frames between a tap without a header and queues with one.
type wire struct {
	tap    int
	queues []int
	header int
	stop   [2]int
	once   sync.Once
	done   sync.WaitGroup
}

func newWire(tap int, queues []int, header int) (*wire, error) {
	w := &wire{tap: tap, queues: queues, header: header}
	for _, q := range queues { // frames come whole and with their checksum, as to a guest without offloads
		if err := unix.IoctlSetInt(q, unix.TUNSETOFFLOAD, 0); err != nil {
			return nil, errors.Join(err, unix.Close(tap))
		}
	}
	if err := unix.Pipe2(w.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, errors.Join(err, unix.Close(tap))
	}
	w.done.Go(w.run)
	return w, nil
}

func (w *wire) close() {
	w.once.Do(func() {
		_ = unix.Close(w.stop[1])
		w.done.Wait()
		_ = unix.Close(w.stop[0])
		_ = unix.Close(w.tap)
	})
}

func (w *wire) run() {
	fds := []unix.PollFd{{Fd: int32(w.stop[0]), Events: unix.POLLIN}, {Fd: int32(w.tap), Events: unix.POLLIN}}
	for _, q := range w.queues {
		fds = append(fds, unix.PollFd{Fd: int32(q), Events: unix.POLLIN})
	}
	buf := make([]byte, 1<<16)
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[0].Revents != 0 {
			return
		}
		w.fromTap(buf)
		for _, q := range w.queues {
			w.fromQueue(q, buf)
		}
	}
}

// frames that neither side takes in are lost, as on a wire.
func (w *wire) fromTap(buf []byte) {
	for {
		n, err := unix.Read(w.tap, buf[w.header:])
		if err != nil {
			return
		}
		clear(buf[:w.header])
		_, _ = unix.Write(w.queues[0], buf[:w.header+n])
	}
}

func (w *wire) fromQueue(q int, buf []byte) {
	for {
		n, err := unix.Read(q, buf)
		if err != nil || n < w.header {
			return
		}
		_, _ = unix.Write(w.tap, buf[w.header:n])
	}
}
