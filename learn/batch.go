package learn

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many frames one recvmmsg(2) takes at most.
const batchSize = 32

// snap is how many bytes of a frame are kept; no DHCP message for a guest is
// longer, it would be a fragment.
const snap = 1536

// message is struct mmsghdr (linux/socket.h).
type message struct {
	header unix.Msghdr
	got    uint32
}

// batch is what recvmmsg(2) fills.
type batch struct {
	list [batchSize]message
	data [batchSize]unix.Iovec
	from [batchSize]unix.RawSockaddrLinklayer
	buf  [batchSize][snap]byte
}

// receive reads what is there, without waiting. With an error there are no
// frames: the kernel keeps one to itself while there is something that it did
// receive (net/socket.c, do_recvmmsg).
func (b *batch) receive(fd int) (int, error) {
	for i := range b.list {
		b.data[i].Base = &b.buf[i][0]
		b.data[i].SetLen(snap)
		h := &b.list[i].header
		h.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		h.Namelen = unix.SizeofSockaddrLinklayer
		h.Iov = &b.data[i]
		h.SetIovlen(1)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.list[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == 0:
		return int(n), nil
	case errors.Is(errno, unix.EAGAIN), errors.Is(errno, unix.EINTR):
		return 0, nil
	}
	return 0, errno
}

// frame is one that was received, and whether the device sent it.
func (b *batch) frame(i int) (f frame, outgoing bool) {
	return b.buf[i][:min(int(b.list[i].got), snap)], b.from[i].Pkttype == unix.PACKET_OUTGOING
}
