package reachability

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// groupPort is where everybody hears everybody.
const groupPort = 7777

// Whom a node speaks to who speaks to many.
var (
	broadcast = netip.MustParseAddr("255.255.255.255")
	group4    = netip.MustParseAddr("239.77.0.1")
	group6    = netip.MustParseAddr("ff15::7777")
)

// ear is what a node hears of the others by broadcast and multicast, and how it
// speaks to them.
type ear struct {
	node    *Node
	sockets map[int]*os.File // by address family

	mu    sync.Mutex
	heard map[string]bool // "to from"
}

// listen has a node join the groups.
func (n *Node) listen(t testkit.TB) *ear {
	t.Helper()
	e := &ear{node: n, sockets: map[int]*os.File{}, heard: map[string]bool{}}
	index := n.Netns.Link(t, n.Device).Index
	for family, join := range map[int]func(fd int) error{
		unix.AF_INET: func(fd int) error {
			mreq := unix.IPMreqn{Multiaddr: group4.As4(), Ifindex: int32(index)}
			return errors.Join(unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &mreq),
				unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &mreq),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.Bind(fd, &unix.SockaddrInet4{Port: groupPort}))
		},
		unix.AF_INET6: func(fd int) error {
			mreq := unix.IPv6Mreq{Multiaddr: group6.As16(), Interface: uint32(index)}
			return errors.Join(unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &mreq),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index),
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
				unix.Bind(fd, &unix.SockaddrInet6{Port: groupPort}))
		},
	} {
		e.open(t, family, join)
	}
	return e
}

func (e *ear) open(t testkit.TB, family int, join func(fd int) error) {
	t.Helper()
	err := e.node.Netns.Do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		e.sockets[family] = os.NewFile(uintptr(fd), "group")
		return errors.Join(unix.BindToDevice(fd, e.node.Device), join(fd))
	})
	if err != nil {
		t.Fatalf("%s cannot listen to groups: %v", e.node.Name, err)
	}
}

// speak says once to everybody who it is.
func (e *ear) speak() {
	for family, groups := range map[int][]netip.Addr{unix.AF_INET: {broadcast, group4}, unix.AF_INET6: {group6}} {
		conn, err := e.sockets[family].SyscallConn()
		if err != nil {
			continue
		}
		_ = conn.Control(func(fd uintptr) {
			for _, to := range groups { // what is not sent is not heard
				_ = unix.Sendto(int(fd), []byte(to.String()+" "+e.node.Name), 0, sockaddr(to, groupPort))
			}
		})
	}
}

// run hears and speaks until stop is closed.
func (e *ear) run(stop <-chan struct{}) {
	var done sync.WaitGroup
	for _, f := range e.sockets {
		done.Go(func() { e.hear(f) })
	}
	for !ended(stop) {
		e.speak()
		wait(stop)
	}
	for _, f := range e.sockets {
		_ = f.Close() // which ends hear
	}
	done.Wait()
}

func (e *ear) hear(f *os.File) {
	buf := make([]byte, 1500)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		e.mu.Lock()
		e.heard[strings.TrimSpace(string(buf[:n]))] = true
		e.mu.Unlock()
	}
}

func (e *ear) hears(to netip.Addr, from *Node) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[to.String()+" "+from.Name]
}
