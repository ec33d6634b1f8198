package room

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/tapdev"
)

// ServeOptions is the command line of `vmnetd room`.
type ServeOptions struct {
	Socket   string // absolute
	Netns    string // the path that stands for this namespace, which is somebody's: the process ends with its first connection; "": the namespace is vmnetd's own
	Listener int    // descriptor of Socket's listener, which an earlier program passes on; 0: none
	Quiet    bool   // standard error is let go of once it listens
	Version  string
	Ready    func() // called once it listens; may be nil
	Log      *slog.Logger
}

// visitLimit is how long a process in somebody's namespace waits for its daemon.
const visitLimit = 10 * time.Second

// Serve answers a daemon about the network namespace that this process is in. It is
// all that the process does, and no signal but SIGKILL ends it: with it the namespace
// would go, and every NIC that guests have there, at any Ctrl-C in the terminal of
// whoever started the daemon, or at a `pkill vmnetd`.
func Serve(ctx context.Context, o ServeOptions) (err error) {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	s := &server{o: o, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(); err != nil {
		return err
	}
	if o.Quiet {
		if err := letGoOfStderr(); err != nil {
			return err
		}
	}
	if o.Ready != nil {
		o.Ready()
	}
	if o.Netns != "" {
		return s.visit(ctx)
	}
	return s.stay(ctx)
}

// server is the process in a namespace.
type server struct {
	o        ServeOptions
	log      *slog.Logger
	in       *local
	listener *net.UnixListener
}

func (s *server) open() error {
	if err := os.Chdir("/"); err != nil { // no file system is kept from being unmounted
		return err
	}
	err := s.enter()
	switch {
	case err != nil:
	case s.o.Listener != 0:
		s.listener, err = inherit(s.o.Listener)
	default:
		s.listener, err = listen(s.o.Socket)
	}
	return err
}

// enter opens what the work in this namespace takes.
func (s *server) enter() error {
	conn, err := rtnl.Open()
	if err != nil {
		return err
	}
	s.in = &local{conn: conn, devices: tapdev.New(conn, nil, nil)}
	s.in.filters, err = filter.Open(conn)
	return err
}

func (s *server) close() error {
	if s.in == nil {
		return nil
	}
	var errs []error
	if s.in.filters != nil {
		errs = append(errs, s.in.filters.Close())
	}
	return errors.Join(append(errs, s.in.devices.Close(), s.in.conn.Close())...)
}

// listen makes the socket, for its user alone. One at which nobody answers is
// replaced; whoever starts us has seen to it that nobody else does so now.
func listen(path string) (*net.UnixListener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, vmnetd.Errorf(vmnetd.ErrBusy, "another process serves %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(0o077)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot listen on %s: %w", path, err)
	}
	return l, nil
}

// inherit takes over a listener from the program that this process was before.
func inherit(fd int) (*net.UnixListener, error) {
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "descriptor %d is no listener: %w", fd, err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close()
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "descriptor %d is no unix socket's", fd)
	}
	return u, nil
}

// letGoOfStderr says to who started us that we listen: the other end of a pipe sees
// its end. Nobody is there to read it later.
func letGoOfStderr() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	return unix.Dup3(null, unix.Stderr, 0)
}

// stay serves whoever comes, as long as the process lives.
func (s *server) stay(ctx context.Context) error {
	s.listener.SetUnlinkOnClose(false)
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			s.log.Warn("cannot accept on the socket of the namespace", "error", err)
			time.Sleep(100 * time.Millisecond) // no descriptors left, for one: others may close theirs
			continue
		}
		if trusted(conn) != nil {
			_ = conn.Close()
			continue
		}
		go s.serve(ctx, conn)
	}
}

// visit serves one daemon until it has gone.
func (s *server) visit(ctx context.Context) error {
	defer s.listener.Close() // and with it the socket
	if err := s.listener.SetDeadline(time.Now().Add(visitLimit)); err != nil {
		return err
	}
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			return err
		}
		if trusted(conn) != nil {
			_ = conn.Close()
			continue
		}
		_ = s.listener.Close()
		s.serve(ctx, conn)
		return nil
	}
}
