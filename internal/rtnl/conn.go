package rtnl

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
)

// deadline is how long one request may take when its context sets nothing
// shorter. The kernel handles a request inside sendmsg and under one lock for
// all: while somebody deletes 1,000 links, others wait 380 ms.
const deadline = 10 * time.Second

// Conn asks the kernel about links and changes them. It may be used by several
// goroutines at once: each request has a socket of its own.
type Conn struct {
	ns *netns.NS

	mu      sync.Mutex
	idle    []*nl.SocketHandle
	pending int // requests the kernel is at, waited for or given up
	closed  bool
}

// Open binds a Conn to the network namespace of the calling thread.
func Open() (*Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ns, err := netns.Current()
	if err != nil {
		return nil, err
	}
	c := &Conn{ns: ns}
	s, err := c.socket()
	if err != nil {
		_ = ns.Close()
		return nil, err
	}
	c.put(s)
	return c, nil
}

// Close lets go of the namespace and of every socket; one that a request has
// not come back from is closed when it does.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	for _, s := range c.idle {
		s.Close()
	}
	c.idle = nil
	return c.ns.Close()
}

// Do runs f in the Conn's namespace: for what has no netlink message, such as
// /proc/sys/net, which shows the namespace of the thread that reads it.
func (c *Conn) Do(f func() error) error { return c.ns.Do(f) }

// request is one message to the kernel and how to read the answer.
type request struct {
	msg   *nl.NetlinkRequest
	reply uint16                    // type of the answers, 0: only an acknowledgement
	late  func(ctx context.Context) // what to take back when nobody waits for the success any more
	names []*netns.NS               // by their descriptors' numbers, which stay theirs until the kernel has done
}

type answer struct {
	msgs [][]byte
	err  error
}

// keep keeps the descriptors of namespaces open until leave is called.
func keep(names []*netns.NS) (leave func(), err error) {
	var leaves []func() error
	leave = func() {
		for _, l := range leaves {
			_ = l()
		}
	}
	for _, ns := range names {
		l, err := ns.Keep()
		if err != nil {
			leave()
			return nil, err
		}
		leaves = append(leaves, l)
	}
	return leave, nil
}

// run sends a request and waits for the answer as long as ctx and the deadline
// allow. The kernel cannot be interrupted: a request that is given up goes on
// in the background, on its own socket, and late takes its effect back.
func (c *Conn) run(ctx context.Context, r request) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	leave, err := keep(r.names)
	if err != nil {
		return nil, err
	}
	s, err := c.take()
	if err != nil {
		leave()
		return nil, err
	}
	handed := make(chan answer) // unbuffered: the sender learns whether it was taken
	c.count(1)
	go func() {
		defer c.count(-1)
		r.msg.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: s}
		msgs, err := r.msg.Execute(unix.NETLINK_ROUTE, r.reply)
		c.put(s)
		leave()
		select {
		case handed <- answer{msgs, err}:
		case <-ctx.Done():
			if err == nil && r.late != nil {
				r.late(context.WithoutCancel(ctx))
			}
		}
	}()
	select {
	case a := <-handed:
		return a.msgs, a.err
	case <-ctx.Done():
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "the kernel did not answer a netlink request in time: %w", ctx.Err()).
			WithNext("see whether the kernel log says \"waiting for ... to become free\"")
	}
}

func (c *Conn) take() (*nl.SocketHandle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("the netlink connection is closed")
	}
	if n := len(c.idle); n > 0 {
		s := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return s, nil
	}
	return c.socket()
}

func (c *Conn) count(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending += by
}

// idleSockets is how many sockets are kept open for the requests to come.
const idleSockets = 4

func (c *Conn) put(s *nl.SocketHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) == idleSockets {
		s.Close()
		return
	}
	c.idle = append(c.idle, s)
}

func (c *Conn) socket() (*nl.SocketHandle, error) {
	var s *nl.NetlinkSocket
	err := c.ns.Do(func() error {
		var err error
		s, err = nl.GetNetlinkSocketAt(vnetns.None(), vnetns.None(), unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open a netlink socket: %w", err)
	}
	// The answer is there when sendmsg returns; this ends only a wait for one
	// that was lost.
	tv := unix.NsecToTimeval(deadline.Nanoseconds())
	_ = s.SetReceiveTimeout(&tv)
	_ = s.SetExtAck(true) // the kernel's own words in errors
	// A dump of addresses that names an ifindex is then cut to it by the
	// kernel (Linux 4.20); without, it is cut here.
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &nl.SocketHandle{Socket: s}, nil
}
