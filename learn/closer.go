package learn

import (
	"sync"

	"golang.org/x/sys/unix"
)

// closingMost is how many sockets are closed at a time.
const closingMost = 16

// closer closes packet sockets, each of which takes as long as RCU does
// (net/packet/af_packet.c, packet_release: 10 to 40 ms), while nobody waits.
type closer struct {
	slots chan struct{}
	all   *sync.WaitGroup
}

func newCloser() closer {
	return closer{slots: make(chan struct{}, closingMost), all: &sync.WaitGroup{}}
}

func (c closer) close(fd int) {
	c.all.Go(func() {
		c.slots <- struct{}{}
		closeFd(fd)
		<-c.slots
	})
}

// wait waits until all are closed.
func (c closer) wait() { c.all.Wait() }

func closeFd(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
