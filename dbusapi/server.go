package dbusapi

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"golang.org/x/sync/errgroup"

	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/bus"
)

// Options of a Server. The zero value serves the system bus.
type Options struct {
	Address    string        // bus address; "": DBUS_SYSTEM_BUS_ADDRESS, or the system bus
	RunDir     string        // where fd.sock is made; "": /run/vmnetd
	Authorizer Authorizer    // who may do what; nil: GroupAuthorizer
	CallLimit  time.Duration // how long a call may take; 0: 20 s
	Log        *slog.Logger  // nil: nothing is logged
}

// Server serves an agent on the bus.
type Server struct {
	api agent.API
	o   Options

	bus     *bus.Bus
	fds     *fdServer
	callers *callers
	changes *changes
	methods map[string]map[string]method // by interface and member
	ifaces  map[string]introspect.Interface

	ctx  context.Context // of every call; set by Run before the first
	load *load
}

const (
	defaultRunDir    = "/run/vmnetd"
	defaultCallLimit = 20 * time.Second
	drainLimit       = 5 * time.Second // for calls to end when the daemon stops
)

// New makes a Server; Run starts it.
func New(api agent.API, o Options) *Server {
	o.RunDir = cmp.Or(o.RunDir, defaultRunDir)
	o.CallLimit = cmp.Or(o.CallLimit, defaultCallLimit)
	if o.Authorizer == nil {
		o.Authorizer = GroupAuthorizer{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{api: api, o: o, methods: methods(), callers: newCallers(), load: newLoad()}
	s.fds = newFDServer(api, filepath.Join(o.RunDir, fdSocketName), o.Log)
	s.bus = bus.New(bus.Options{Address: o.Address, Name: busName, Handler: s, OnUp: s.up, Log: o.Log})
	s.changes = newChanges(s.emit)
	return s
}

// Ready is closed when the name is owned for the first time.
func (s *Server) Ready() <-chan struct{} { return s.bus.Ready() }

func (s *Server) String() string { return "D-Bus" }

// Run serves until ctx ends; calls that run then are told so by their context,
// and answered. It fails at once when another process owns the name
// (vmnetd.ErrBusy); a bus that is away is waited for.
func (s *Server) Run(ctx context.Context) error {
	ifaces, err := interfaces()
	if err != nil {
		return err
	}
	s.ifaces = ifaces
	group, ctx := errgroup.WithContext(ctx)
	s.ctx = ctx
	stop := s.api.Subscribe(s.changes.put)
	defer stop()
	s.changes.seed(s.api.List(""), s.api.Uplinks())

	onBus, leaveBus := context.WithCancel(context.WithoutCancel(ctx))
	defer leaveBus()
	group.Go(func() error { return s.changes.run(ctx) })
	group.Go(func() error { return s.fds.run(ctx) })
	group.Go(func() error { return s.bus.Run(onBus) })
	group.Go(func() error {
		<-ctx.Done()
		s.drain()
		leaveBus()
		return nil
	})
	return group.Wait()
}

// drain waits for the calls that run. The bus answers one call more after the
// last of them, so that their replies are out before the connection closes.
func (s *Server) drain() {
	s.load.stop()
	select {
	case <-s.load.idle:
	case <-time.After(drainLimit):
	}
	if conn := s.bus.Conn(); conn != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Second)
		defer cancel()
		conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetId", 0)
	}
}

// up runs when the name is ours: unique names begin anew with each bus, and
// nobody can have a token for the fd socket before.
func (s *Server) up(*dbus.Conn) error {
	s.callers.forget()
	return s.fds.listen()
}

// emit sends a signal; while there is no bus there is nobody to hear it.
func (s *Server) emit(path dbus.ObjectPath, name string, values ...any) {
	conn := s.bus.Conn()
	if conn == nil {
		return
	}
	if err := conn.Emit(path, name, values...); err != nil {
		s.o.Log.Debug("signal not sent", "signal", name, "path", path, "error", err)
	}
}
