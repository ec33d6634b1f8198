package testkit

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Sniffer hears every frame of some EtherTypes that comes in at a device, with
// the VLAN tag that it had.
type Sniffer struct{ fd int }

// Sniffed is a frame as it was on the wire, without its tag.
type Sniffed struct {
	Bytes []byte
	VLAN  int       // 0 without a tag
	At    time.Time // when the kernel got it, by the wall clock
}

// EtherType is what is in it.
func (s Sniffed) EtherType() uint16 { return binary.BigEndian.Uint16(s.Bytes[12:]) }

// Sniff listens on a device of a namespace to those EtherTypes, to all without
// any. What was heard before it is read is kept.
func (n *Netns) Sniff(t TB, ifname string, etherTypes ...uint16) *Sniffer {
	t.Helper()
	index := n.Link(t, ifname).Index
	fd := -1
	err := n.Do(func() error {
		var err error
		fd, err = packetSocket(index, unix.ETH_P_ALL, etherTypes...)
		return err
	})
	if err != nil {
		t.Fatalf("cannot listen on %s: %v", ifname, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return &Sniffer{fd: fd}
}

// packetSocket is a socket on a device that gets what comes in, of those
// EtherTypes alone where there are any.
func packetSocket(index int, protocol uint16, etherTypes ...uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	steps := []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) },
		func() error { return filterEtherTypes(fd, etherTypes) },
		func() error {
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap16(protocol), Ifindex: index})
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// swap16 is htons(3).
func swap16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// filterEtherTypes has the kernel drop what is not asked for: a buffer full of
// noise would lose what matters. It is in place before the socket is bound.
func filterEtherTypes(fd int, wanted []uint16) error {
	if len(wanted) == 0 {
		return nil
	}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12}}
	for i, w := range wanted {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(w), Jt: uint8(len(wanted) - i)})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16})
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// Next is the next frame; ok is false when none came in time.
func (s *Sniffer) Next(t TB, within time.Duration) (f Sniffed, ok bool) {
	t.Helper()
	buf, oob := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, oobn, _, _, err := unix.Recvmsg(s.fd, buf, oob, 0)
		switch {
		case err == nil:
			f := Sniffed{Bytes: buf[:n:n]}
			f.takeControl(oob[:oobn])
			return f, true
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			t.Fatalf("cannot read frames: %v", err)
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(within.Milliseconds()))
		if err == nil && ready == 0 {
			return Sniffed{}, false
		}
	}
}

// takeControl reads what the kernel says of a frame: the VLAN in struct
// tpacket_auxdata (linux/if_packet.h), because it takes the tag out of a frame on
// its way in, and the time.
func (f *Sniffed) takeControl(oob []byte) {
	const statusVLANValid = 1 << 4
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range messages {
		switch h := m.Header; {
		case h.Level == unix.SOL_PACKET && h.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20:
			if binary.NativeEndian.Uint32(m.Data)&statusVLANValid != 0 {
				f.VLAN = int(binary.NativeEndian.Uint16(m.Data[16:]) & 0xfff)
			}
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16:
			f.At = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
}
