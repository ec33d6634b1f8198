package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	libvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// oldestLibvirt is 8.0.0, as ConnectGetLibVersion writes it.
const oldestLibvirt = 8_000_000

// lvSession is one connection to libvirtd. go-libvirt can connect again by the
// same object, but forgets to say that a connection ended which ended while it
// was being made: each gets an object of its own.
type lvSession struct {
	path    string
	conn    *lvConn
	lv      *libvirt.Libvirt
	pid     int // of who listens: libvirtd, or systemd on its behalf
	version uint64
	calls   sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

// lvDialer hands go-libvirt the connection that is there.
type lvDialer struct{ conn net.Conn }

// Dial implements socket.Dialer of go-libvirt.
func (d lvDialer) Dial() (net.Conn, error) { return d.conn, nil }

// reach connects to the first of the sockets that is there, within Limits.Reach
// as a whole.
func (l *Libvirt) reach(ctx context.Context, sockets []string, heard func(lvEvent)) (*lvSession, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limits.Reach)
	defer cancel()
	path := sockets[0]
	for _, p := range sockets[1:] {
		if !isSocket(path) && isSocket(p) {
			path = p
		}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, lvNoAnswer(path, cause(err))
	}
	s := &lvSession{path: path, conn: newLvConn(l.fd.flight.wrap(conn), heard), pid: peerPID(conn)}
	s.lv = libvirt.NewWithDialer(lvDialer{s.conn})
	if err := s.do(ctx, func(lv *libvirt.Libvirt) error { return lv.ConnectToURI(libvirt.QEMUSystem) }); err != nil {
		s.close()
		return nil, lvReached(path, err)
	}
	err = s.do(ctx, func(lv *libvirt.Libvirt) (err error) { s.version, err = lv.ConnectGetLibVersion(); return err })
	if err == nil && s.version < oldestLibvirt {
		err = vmnetd.Errorf(vmnetd.ErrUnsupported, "libvirt %s is too old: vmnetd needs 8.0.0", lvVersion(s.version)).
			WithNext("upgrade libvirt, or let vmnetd find VMs by QMP sockets (hypervisors: qmp:)")
	}
	if err != nil {
		s.close()
		return nil, lvReached(path, err)
	}
	return s, nil
}

func lvVersion(v uint64) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}

func peerPID(conn net.Conn) int {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// lvNoAnswer is that libvirtd does not answer.
func lvNoAnswer(path string, err error) error {
	return vmnetd.Errorf(vmnetd.ErrFailed, "libvirtd does not answer on %s: %w", path, err).WithNext("systemctl status libvirtd")
}

// lvReached explains why the one who listens did not let us in.
func lvReached(path string, err error) error {
	var told *vmnetd.Error
	var refused libvirt.Error
	switch {
	case errors.As(err, &told):
		return err
	case errors.As(err, &refused):
		return vmnetd.Errorf(vmnetd.ErrDenied, "libvirtd on %s does not let vmnetd in: %s", path, lvText(refused.Message)).
			WithNext("see auth_unix_rw and unix_sock_group in /etc/libvirt/libvirtd.conf; vmnetd runs as root")
	}
	return lvNoAnswer(path, lvCut(err))
}

// lvCut says in words what go-libvirt has of a connection that ended.
func lvCut(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("it is frozen or overloaded: %w", os.ErrDeadlineExceeded)
	case errors.Is(err, libvirt.ErrInterrupted), errors.Is(err, syscall.EINVAL), errors.Is(err, unix.EPIPE), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("the connection ended: %w", unix.ECONNRESET)
	}
	return err
}

// lvText is a message of libvirt as part of a sentence of ours.
func lvText(s string) string {
	return vmnetd.Printable(strings.TrimSuffix(strings.TrimSpace(s), "."))
}

// abandonedError is a call that goes on without us: what comes of it is not known
// before done is closed.
type abandonedError struct {
	cause error
	done  <-chan struct{}
}

func (e *abandonedError) Error() string { return "no answer yet: " + e.cause.Error() }
func (e *abandonedError) Unwrap() error { return e.cause }

// do makes a call and returns when ctx ends, at the latest. The goroutine of a
// call that is abandoned ends with the answer or with the connection.
func (s *lvSession) do(ctx context.Context, f func(*libvirt.Libvirt) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	result, done := make(chan error, 1), make(chan struct{})
	s.mu.Lock()
	if s.closed { // nobody would wait for it
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.calls.Go(func() {
		defer close(done)
		result <- f(s.lv)
	})
	s.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return &abandonedError{cause: ctx.Err(), done: done}
	}
}

// close ends the connection and everything that waits for an answer on it.
func (s *lvSession) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.conn.Close()
	s.calls.Wait()
}
