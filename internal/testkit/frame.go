package testkit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// EtherTest is the EtherType of test frames: local experimental, IEEE 802
// clause 9.2.4. No stack answers it.
const EtherTest = 0x88b5

// Frame is an Ethernet frame with a test's payload.
type Frame struct {
	Dst, Src net.HardwareAddr
	Text     string
}

// Broadcast is the address that every station hears.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Bytes is the frame as it is on the wire, padded to 60 bytes.
func (f Frame) Bytes() []byte {
	b := append(append([]byte{}, f.Dst...), f.Src...)
	b = binary.BigEndian.AppendUint16(b, EtherTest)
	b = append(b, f.Text...)
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

// ParseFrame reads a test frame; ok is false for any other.
func ParseFrame(b []byte) (f Frame, ok bool) {
	if len(b) < 14 || binary.BigEndian.Uint16(b[12:]) != EtherTest {
		return Frame{}, false
	}
	text := string(bytes.TrimRight(b[14:], "\x00"))
	return Frame{Dst: bytes.Clone(b[:6]), Src: bytes.Clone(b[6:12]), Text: text}, true
}

// Wire sends and hears test frames somewhere.
type Wire struct {
	fd     int
	header int // bytes before the frame: the virtio-net header of a tap queue
}

// OpenWire listens on a device of a namespace by a packet socket (packet(7)),
// to test frames only and not to what it sends itself.
func (n *Netns) OpenWire(t TB, ifname string) *Wire {
	t.Helper()
	index := n.Link(t, ifname).Index
	w := &Wire{}
	err := n.Do(func() error {
		proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, EtherTest))
		var err error
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index}),
		)
	})
	if err != nil {
		t.Fatalf("cannot open a packet socket on %s: %v", ifname, err)
	}
	t.Cleanup(func() { _ = unix.Close(w.fd) })
	return w
}

// TapWire speaks on a tap queue as the guest does. header is the size of its
// virtio-net header: 10 bytes unless TUNSETVNETHDRSZ said otherwise, 0 without
// IFF_VNET_HDR. The queue stays the caller's.
func TapWire(fd, header int) *Wire { return &Wire{fd: fd, header: header} }

// Send sends a frame.
func (w *Wire) Send(t TB, f Frame) {
	t.Helper()
	w.SendBytes(t, f.Bytes())
}

// SendBytes sends a frame that is none of a test's own.
func (w *Wire) SendBytes(t TB, frame []byte) {
	t.Helper()
	if _, err := unix.Write(w.fd, append(make([]byte, w.header), frame...)); err != nil {
		t.Fatalf("cannot send % x: %v", frame[:min(len(frame), 40)], err)
	}
}

// Hear waits for a test frame with that text; false when none came in time.
// Other test frames that came before it are in others.
func (w *Wire) Hear(t TB, text string, within time.Duration) (others []Frame, heard bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		b, err := w.read(deadline)
		if err != nil {
			t.Fatalf("cannot read frames: %v", err)
		}
		if b == nil {
			return others, false
		}
		f, ok := ParseFrame(b)
		switch {
		case !ok:
		case f.Text == text:
			return others, true
		default:
			others = append(others, f)
		}
	}
}

// read is the next frame of any kind, nil when none came before the deadline.
func (w *Wire) read(deadline time.Time) ([]byte, error) {
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(w.fd, buf)
		switch {
		case err == nil && n >= w.header:
			return buf[w.header:n], nil
		case err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return nil, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil
		}
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
	}
}
