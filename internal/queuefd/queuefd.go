// Package queuefd carries the raw file descriptors of a device's queues from
// who opens them to who hands them over.
//
// They are plain ints on purpose: (*os.File).Fd sets blocking mode on the open
// file description, which is shared with QEMU and would hang its main loop at
// the next frame.
package queuefd

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Set is the queue fds of one device, and one vhost-net fd for each of them or
// none. Whoever opened it closes it.
type Set struct {
	Queues      []int
	VHost       []int
	VHostReason string // why there is none, when VHost is empty
}

// All is every fd, queues first.
func (s *Set) All() []int { return append(append([]int(nil), s.Queues...), s.VHost...) }

// DropVHost closes the vhost-net fds, for a receiver that cannot take them, and
// notes why there are none.
func (s *Set) DropVHost(why string) error {
	dropped := Set{VHost: s.VHost}
	s.VHost, s.VHostReason = nil, why
	return dropped.Close()
}

// Close closes every fd; calling it again does nothing. Closing the last
// reference to a tap queue takes about 12 ms (RCU in drivers/net/tap.c).
func (s *Set) Close() error {
	var errs []error
	for _, fd := range s.All() {
		errs = append(errs, unix.Close(fd))
	}
	s.Queues, s.VHost = nil, nil
	return errors.Join(errs...)
}
