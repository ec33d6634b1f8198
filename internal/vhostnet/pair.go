// Package vhostnet is a guest's virtio-net driver without the guest: frames go by
// way of vhost-net, from and to memory that it shares with the kernel. It is for tests
// and measurements of what QEMU would have such frames take.
//
// It speaks legacy virtio (Virtio 1.2, 2.2.3) without any feature, so the
// virtio-net header has 10 bytes, as that of a tap queue that nobody has changed.
package vhostnet

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pair is a transmit and a receive ring on one queue of a tap, macvtap or ipvtap. One
// goroutine may write while another reads.
type Pair struct {
	vhost  int
	memory []byte
	rx, tx ring
}

// New begins to carry frames from and to a queue by a vhost-net fd of its own. The fds
// stay the caller's, who closes them after the Pair.
func New(vhost, queue int) (p *Pair, err error) {
	p = &Pair{vhost: vhost, rx: newRing(), tx: newRing()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.memory, err = unix.Mmap(-1, 0, 2*ringBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return p, err
	}
	for i, r := range []*ring{&p.rx, &p.tx} {
		if err := r.init(p.memory[i*ringBytes:][:ringBytes]); err != nil {
			return p, err
		}
	}
	if err := p.share(); err != nil {
		return p, err
	}
	p.rx.fill()
	p.tx.keepQuiet()
	return p, p.backend(queue)
}

// share tells vhost-net of the memory and the rings (uapi/linux/vhost.h).
func (p *Pair) share() error {
	if err := p.ioctl(setOwner, nil); err != nil {
		return err
	}
	features := uint64(0)
	if err := p.ioctl(setFeatures, unsafe.Pointer(&features)); err != nil {
		return err
	}
	base := uint64(uintptr(unsafe.Pointer(&p.memory[0])))
	table := memTable{count: 1, region: memRegion{guest: base, size: uint64(len(p.memory)), user: base}}
	if err := p.ioctl(setMemTable, unsafe.Pointer(&table)); err != nil {
		return err
	}
	for i, r := range p.rings() {
		i := uint32(i)
		num, from := vringState{i, entries}, vringState{i, 0}
		addr := vringAddr{index: i, desc: address(r.desc), used: address(r.used), avail: address(r.avail)}
		kick, call := vringFile{i, int32(r.kick)}, vringFile{i, int32(r.call)}
		for _, err := range []error{
			p.ioctl(setVringNum, unsafe.Pointer(&num)), p.ioctl(setVringBase, unsafe.Pointer(&from)), p.ioctl(setVringAddr, unsafe.Pointer(&addr)),
			p.ioctl(setVringKick, unsafe.Pointer(&kick)), p.ioctl(setVringCall, unsafe.Pointer(&call)),
		} {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// rings are in vhost-net's order: what a guest receives is 0, what it sends 1.
func (p *Pair) rings() []*ring { return []*ring{&p.rx, &p.tx} }

// backend has the rings' frames go by a queue, or by none when it is -1.
func (p *Pair) backend(queue int) error {
	for i := range p.rings() {
		f := vringFile{uint32(i), int32(queue)}
		if err := p.ioctl(setBackend, unsafe.Pointer(&f)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pair) ioctl(request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.vhost), uintptr(request), uintptr(arg)); errno != 0 {
		return fmt.Errorf("vhost-net, ioctl %#x: %w", request, errno)
	}
	return nil
}

// Write sends a virtio-net header with a frame behind it. EAGAIN when the ring is
// full: the kernel has not sent what is in it.
func (p *Pair) Write(frame []byte) (int, error) { return p.tx.send(frame) }

// Read takes a frame with its virtio-net header. EAGAIN when there is none; Ready
// says when to look again.
func (p *Pair) Read(buf []byte) (int, error) { return p.rx.receive(buf) }

// Ready is an fd that polls as readable once there may be a frame to read.
func (p *Pair) Ready() int { return p.rx.call }

// Close ends the carrying of frames.
func (p *Pair) Close() error {
	if p.memory == nil {
		return nil
	}
	err := p.backend(-1)
	return errors.Join(err, p.rx.close(), p.tx.close(), unix.Munmap(p.memory))
}
