package learn

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller is an epoll set that is waited for by the runtime's own: one goroutine
// for all sockets, and no thread that sits in epoll_wait(2).
type poller struct {
	file   *os.File
	raw    syscall.RawConn
	events [64]unix.EpollEvent
	ready  []int
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not poll it
		_ = unix.Close(fd)
		return nil, err
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err == nil {
		err = p.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = p.file.Close()
		return nil, err
	}
	return p, nil
}

// wait waits for sockets that have something, or for the time of until. What it
// returns is valid until the next wait.
func (p *poller) wait() ([]int, error) {
	n := 0
	var err error
	readErr := p.raw.Read(func(fd uintptr) bool {
		n, err = unix.EpollWait(int(fd), p.events[:], 0)
		return n != 0
	})
	if errors.Is(err, unix.EINTR) {
		err = nil
	}
	p.ready = p.ready[:0]
	for _, e := range p.events[:max(n, 0)] {
		p.ready = append(p.ready, int(e.Fd))
	}
	if readErr != nil && !errors.Is(readErr, os.ErrDeadlineExceeded) {
		err = readErr
	}
	return p.ready, err
}

// until has wait end at a time; zero: not for the sake of time. It may be called
// while wait waits.
func (p *poller) until(t time.Time) { _ = p.file.SetReadDeadline(t) } // an error: it is closed, and wait ends

func (p *poller) add(fd int) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (p *poller) drop(fd int) error { return p.control(unix.EPOLL_CTL_DEL, fd, nil) }

func (p *poller) control(op, fd int, event *unix.EpollEvent) error {
	var err error
	if closed := p.raw.Control(func(set uintptr) { err = unix.EpollCtl(int(set), op, fd, event) }); closed != nil {
		return closed
	}
	return err
}

func (p *poller) close() error { return p.file.Close() }
