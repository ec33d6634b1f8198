package datapath

import "golang.org/x/sys/unix"

// queue is one of a guest's queues. Read and Write are of one frame behind its
// virtio-net header; EAGAIN says that it is not their time.
type queue interface {
	Read(buf []byte) (int, error)
	Write(frame []byte) (int, error)
	Ready() int // polls as readable once there may be a frame
}

// tapQueue is the fd of a queue, read and written by this process.
type tapQueue int

// Read is of the fd.
func (q tapQueue) Read(buf []byte) (int, error) { return unix.Read(int(q), buf) }

// Write is of the fd.
func (q tapQueue) Write(frame []byte) (int, error) { return unix.Write(int(q), frame) }

// Ready is the fd.
func (q tapQueue) Ready() int { return int(q) }

// wait waits for a frame, and not longer than what a turn can spare.
func wait(queues ...queue) {
	fds := make([]unix.PollFd, len(queues))
	for i, q := range queues {
		fds[i] = unix.PollFd{Fd: int32(q.Ready()), Events: unix.POLLIN}
	}
	_, _ = unix.Poll(fds, 2)
}

// drain empties queues.
func drain(queues []queue) {
	buf := make([]byte, 1<<17)
	for _, q := range queues {
		for {
			if _, err := q.Read(buf); err != nil {
				break
			}
		}
	}
}
