package vhostnet

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	entries  = 64
	bufBytes = 68 << 10 // the largest frame, and its header

	ringBytes = 2*tableBytes + entries*bufBytes // a multiple of the page size
	// tableBytes is more than each of a ring's tables takes.
	tableBytes = 4 << 10
)

// The three tables of a split virtqueue (Virtio 1.2, 2.7).
type (
	descriptor struct {
		addr     uint64
		bytes    uint32
		flags, _ uint16
	}
	availTable struct {
		state atomic.Uint32 // flags, and above them how many entries there ever were
		ring  [entries]uint16
	}
	usedTable struct {
		state atomic.Uint32
		ring  [entries]struct{ id, bytes uint32 }
	}
)

const (
	descWrite   = 2 // VIRTQ_DESC_F_WRITE: the device writes there
	noInterrupt = 1 // VIRTQ_AVAIL_F_NO_INTERRUPT
	noNotify    = 1 // VIRTQ_USED_F_NO_NOTIFY
)

// ring is a virtqueue whose driver we are. The order of the halves of state is that of
// a little-endian machine.
type ring struct {
	desc       *[entries]descriptor
	avail      *availTable
	used       *usedTable
	bufs       []byte
	kick, call int

	flags   uint16
	offered uint16 // entries made available so far
	taken   uint16 // used ones taken back so far
	free    []uint16
}

func newRing() ring { return ring{kick: -1, call: -1} }

func (r *ring) init(memory []byte) error {
	r.desc = (*[entries]descriptor)(unsafe.Pointer(&memory[0]))
	r.avail = (*availTable)(unsafe.Pointer(&memory[tableBytes/2]))
	r.used = (*usedTable)(unsafe.Pointer(&memory[tableBytes]))
	r.bufs = memory[2*tableBytes:]
	for i := range entries {
		r.free = append(r.free, uint16(i))
		r.desc[i].addr = address(&r.buf(uint16(i))[0])
	}
	for _, fd := range []*int{&r.kick, &r.call} {
		var err error
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return fmt.Errorf("eventfd: %w", err)
		}
	}
	return nil
}

func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

func (r *ring) buf(id uint16) []byte { return r.bufs[int(id)*bufBytes:][:bufBytes] }

// fill offers every buffer for frames to come.
func (r *ring) fill() {
	for _, id := range r.free {
		r.desc[id].bytes, r.desc[id].flags = bufBytes, descWrite
		r.offer(id)
	}
	r.free = nil
}

// keepQuiet asks not to be told of what is used.
func (r *ring) keepQuiet() {
	r.flags = noInterrupt
	r.publish()
}

func (r *ring) publish() { r.avail.state.Store(uint32(r.flags) | uint32(r.offered)<<16) }

// offer gives a buffer to the device, and wakes it unless it looks by itself.
func (r *ring) offer(id uint16) {
	r.avail.ring[r.offered%entries] = id
	r.offered++
	r.publish()
	if r.used.state.Load()&noNotify == 0 {
		_, _ = unix.Write(r.kick, one[:])
	}
}

var one = [8]byte{1} // what is added to an eventfd's count

// take is a buffer that the device is done with, and how much it wrote.
func (r *ring) take() (id uint16, n int, ok bool) {
	if uint16(r.used.state.Load()>>16) == r.taken {
		return 0, 0, false
	}
	e := r.used.ring[r.taken%entries]
	r.taken++
	return uint16(e.id), int(e.bytes), true
}

func (r *ring) send(frame []byte) (int, error) {
	for id, _, ok := r.take(); ok; id, _, ok = r.take() {
		r.free = append(r.free, id)
	}
	if len(r.free) == 0 {
		return 0, unix.EAGAIN
	}
	id := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	r.desc[id].bytes = uint32(copy(r.buf(id), frame))
	r.offer(id)
	return len(frame), nil
}

func (r *ring) receive(buf []byte) (int, error) {
	id, n, ok := r.take()
	if !ok {
		var told [8]byte
		_, _ = unix.Read(r.call, told[:])
		if id, n, ok = r.take(); !ok { // what came before it was told
			return 0, unix.EAGAIN
		}
	}
	n = copy(buf, r.buf(id)[:n])
	r.offer(id)
	return n, nil
}

func (r *ring) close() error {
	var errs []error
	for _, fd := range []int{r.kick, r.call} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
