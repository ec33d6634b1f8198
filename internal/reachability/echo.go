package reachability

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// interval is that between two tries of anything.
const interval = 300 * time.Millisecond

// Types of ICMP messages (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// Reaches says whether an address answers the node within a time.
func (n *Node) Reaches(to netip.Addr, within time.Duration) bool {
	stop := make(chan struct{})
	late := time.AfterFunc(within, func() { close(stop) })
	defer late.Stop()
	return n.echo(netip.Addr{}, to, stop)
}

// echo asks an address until it answers, or stop is closed, and says whether it
// did. from may be no address.
func (n *Node) echo(from, to netip.Addr, stop <-chan struct{}) bool {
	request := []byte{echoRequest4, 0, 0, 0, 0, 0, 0, 0}
	reply := byte(echoReply4)
	if to.Is6() {
		request[0], reply = echoRequest6, echoReply6
	}
	for !ended(stop) {
		f, err := n.ping(from, to)
		if err != nil { // no route yet, or the source is not usable yet
			wait(stop)
			continue
		}
		heard := answers(f, request, reply, stop)
		_ = f.Close()
		if heard {
			return true
		}
	}
	return false
}

// ping is a socket on which the kernel numbers echo requests and sorts the answers
// (net/ipv4/ping.c).
func (n *Node) ping(from, to netip.Addr) (*os.File, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if to.Is6() {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	var f *os.File
	err := n.Netns.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "ping")
		if from.IsValid() {
			err = unix.Bind(fd, sockaddr(from, 0))
		}
		return errors.Join(err, unix.Connect(fd, sockaddr(to, 0)))
	})
	if err != nil && f != nil {
		_ = f.Close()
	}
	return f, err
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// tries is how many requests go by one socket.
const tries = 10

func answers(f *os.File, request []byte, reply byte, stop <-chan struct{}) bool {
	buf := make([]byte, 1500)
	for range tries {
		if ended(stop) {
			return false
		}
		_, _ = f.Write(request) // what is not sent is not answered
		next := time.Now().Add(interval)
		_ = f.SetReadDeadline(next)
		for time.Now().Before(next) {
			if n, err := f.Read(buf); err == nil && n > 0 && buf[0] == reply {
				return true
			}
		}
	}
	return false
}

func ended(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

func wait(stop <-chan struct{}) {
	select {
	case <-stop:
	case <-time.After(interval):
	}
}
