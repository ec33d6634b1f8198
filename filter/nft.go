package filter

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// deadline is how long one call may take when its context sets nothing shorter.
// The kernel makes one transaction after the other.
const deadline = 10 * time.Second

// nft is nf_tables of one network namespace, by one socket that stays. The
// library's own connection asks for an echo of every rule and loses errno on its
// way back, so its expressions are used and not its messages.
type nft struct {
	conn   *rtnl.Conn
	opened func(port uint32) // told of each socket before it is used
	turn   chan struct{}     // whoever has put into it has the socket
	tables *tables

	mu     sync.Mutex
	sock   *netlink.Conn // nil: to be opened
	ours   map[uint32]bool
	closed bool
}

// session is the socket while somebody has it.
type session struct {
	sock   *netlink.Conn
	tables *tables
}

func openNFT(conn *rtnl.Conn) (*nft, error) {
	n := &nft{conn: conn, turn: make(chan struct{}, 1), tables: newTables(), ours: map[uint32]bool{}, opened: func(uint32) {}}
	if _, err := n.open(); err != nil {
		return nil, err
	}
	return n, nil
}

// open is the socket, opened where it is not.
func (n *nft) open() (*netlink.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "the connection to nf_tables is closed")
	case n.sock != nil:
		return n.sock, nil
	}
	sock, err := dial(n.conn)
	if err != nil {
		return nil, err
	}
	n.sock = sock
	n.ours[sock.PID()] = true
	n.opened(sock.PID())
	return sock, nil
}

func dial(conn *rtnl.Conn) (*netlink.Conn, error) {
	var sock *netlink.Conn
	err := conn.Do(func() error {
		var err error
		sock, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	})
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open a socket to nf_tables: %w", err)
	}
	_ = sock.SetOption(netlink.ExtendedAcknowledge, true) // the kernel's own words in errors
	_ = sock.SetWriteBuffer(2 << 20)                      // a batch of hundreds of devices is one message
	return sock, nil
}

// tell has f told of the port of the socket, and of that of each later one.
func (n *nft) tell(f func(port uint32)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened = f
	if n.sock != nil {
		f(n.sock.PID())
	}
}

// isOurs says whether a message is about a change that we made.
func (n *nft) isOurs(port uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ours[port]
}

func (n *nft) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.dropLocked()
}

// dropSocket ends a socket on which answers may be left that nobody waits for.
func (n *nft) dropSocket() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropLocked()
}

func (n *nft) dropLocked() {
	if n.sock != nil {
		_ = n.sock.Close()
		n.sock = nil
	}
}

// run calls f with the socket, one at a time, as long as ctx and the deadline
// allow. The kernel cannot be interrupted: what is given up goes on in the
// background, and others wait for it.
func (n *nft) run(ctx context.Context, f func(*session) error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	late := func() error {
		return vmnetd.Errorf(vmnetd.ErrFailed, "nf_tables did not answer in time: %w", ctx.Err())
	}
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		return late()
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-n.turn }()
		done <- n.attempt(f)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return late()
	}
}

// tries bounds the attempts that meet somebody else's change in between.
const tries = 4

func (n *nft) attempt(f func(*session) error) error {
	for try := 1; ; try++ {
		sock, err := n.open()
		if err != nil {
			return err
		}
		_ = sock.SetReadDeadline(time.Now().Add(deadline))
		err = (&session{sock: sock, tables: n.tables}).do(f)
		if err == nil {
			return nil
		}
		n.tables.stale.Store(true)
		n.dropSocket()
		if try == tries || !changedMeanwhile(err) {
			return err
		}
	}
}

// do calls f when it is known which device is in which table.
func (s *session) do(f func(*session) error) error {
	if s.tables.stale.Swap(false) {
		if _, err := s.listed(); err != nil {
			return err
		}
	}
	return f(s)
}

// changedMeanwhile says that what was read was true no longer when it was to be
// changed, or while it was read.
func changedMeanwhile(err error) bool {
	for _, e := range []error{errInterrupted, unix.ENOENT, unix.EEXIST, unix.EBUSY, unix.ERESTART, unix.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var errInterrupted = errors.New("the tables changed while they were listed")
