package announce

import (
	"errors"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many frames one sendmmsg(2) takes at most.
const batch = 64

// sendBuffer is in bytes. The kernel charges a frame of 60 bytes with 768; a
// NIC gives them back when it has sent them.
const sendBuffer = 4 << 20

// fullWait is how long is waited for room in a full send buffer, in
// milliseconds, in a round; afterwards frames are given up.
const fullWait = 20

// socket is a packet socket (packet(7)) that only sends.
type socket struct {
	mu sync.RWMutex // held for writing while it is closed: nobody sends by a number that is somebody else's
	fd int          // -1 when closed
}

func openSocket() (*socket, error) {
	// Protocol 0: it receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) // without CAP_NET_ADMIN it stays as it is
	return &socket{fd: fd}, nil
}

func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

// failures is what was not sent of a round.
type failures struct {
	guests  int // of whom no frame was sent
	devices map[int]*deviceFailure
}

// deviceFailure is what one device refused.
type deviceFailure struct {
	guests int
	name   string // the first guest
	err    error
}

func (f *failures) add(refused frame, err error) {
	if !refused.first {
		return // the switches know, which is what counts
	}
	f.guests++
	d := f.devices[refused.ifindex]
	if d == nil {
		d = &deviceFailure{name: refused.name, err: err}
		if f.devices == nil {
			f.devices = map[int]*deviceFailure{}
		}
		f.devices[refused.ifindex] = d
	}
	d.guests++
}

// send sends the frames in their order; begun is called when the first is out.
func (s *socket) send(list []frame, begun func()) failures {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var failed failures
	var m messages
	patience := fullWait
	atMost := 1 // alone, so that its time is known
	for len(list) > 0 {
		n, err := s.sendSome(&m, list[:min(atMost, len(list))], &patience)
		if n > 0 {
			if begun != nil {
				begun()
				begun = nil
			}
			list = list[n:]
			atMost = batch
			continue
		}
		// The kernel keeps an error to itself while there is something that it
		// did send (net/socket.c, __sys_sendmmsg): this is the first frame's.
		failed.add(list[0], err)
		list = list[1:]
	}
	return failed
}

// sendSome sends as many as the kernel takes at once. patience is how long it
// may wait for room in the send buffer.
func (s *socket) sendSome(m *messages, list []frame, patience *int) (int, error) {
	if s.fd < 0 {
		return 0, unix.EBADF
	}
	for {
		n, err := m.send(s.fd, list)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && *patience > 0:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, *patience)
			*patience = 0
		default:
			return n, err
		}
	}
}

// message is struct mmsghdr (linux/socket.h).
type message struct {
	header unix.Msghdr
	sent   uint32
}

// messages is what sendmmsg(2) reads.
type messages struct {
	list [batch]message
	data [batch]unix.Iovec
	to   [batch]unix.RawSockaddrLinklayer
}

func (m *messages) send(fd int, list []frame) (int, error) {
	for i, f := range list {
		m.to[i] = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(f.ifindex), Halen: 6}
		copy(m.to[i].Addr[:], f.bytes[:6])
		m.data[i].Base = &f.bytes[0]
		m.data[i].SetLen(len(f.bytes))
		h := &m.list[i].header
		h.Name = (*byte)(unsafe.Pointer(&m.to[i]))
		h.Namelen = unix.SizeofSockaddrLinklayer
		h.Iov = &m.data[i]
		h.SetIovlen(1)
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.list[0])), uintptr(len(list)), 0, 0, 0)
	runtime.KeepAlive(list)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
