package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// Options of a Bus.
type Options struct {
	Address string       // "": Address()
	Name    string       // the name to own
	Handler dbus.Handler // answers calls
	// OnUp is called each time the name is owned, the first time before Ready;
	// an error gives the connection up, to try again.
	OnUp func(*dbus.Conn) error
	Log  *slog.Logger // nil: nothing is logged
}

// Bus is one connection that comes back.
type Bus struct {
	o     Options
	ready chan struct{}

	mu   sync.Mutex
	conn *dbus.Conn
}

// How long to wait between two attempts to reach the bus.
const (
	shortestWait = 50 * time.Millisecond
	longestWait  = 5 * time.Second
	greeting     = 10 * time.Second // for the handshake and the name
)

// New makes a Bus; Run connects it.
func New(o Options) *Bus {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnUp == nil {
		o.OnUp = func(*dbus.Conn) error { return nil }
	}
	return &Bus{o: o, ready: make(chan struct{})}
}

// Ready is closed when the name is owned for the first time.
func (b *Bus) Ready() <-chan struct{} { return b.ready }

// Conn is the connection that owns the name, nil while there is none.
func (b *Bus) Conn() *dbus.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conn
}

func (b *Bus) set(conn *dbus.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = conn
}

// Run keeps the connection until ctx ends. A bus that is away is waited for. A
// name that another process owns is vmnetd.ErrBusy when it was never ours, and
// waited for otherwise: guests do not care.
func (b *Bus) Run(ctx context.Context) error {
	wait, said, owned := shortestWait, "", false
	for ctx.Err() == nil {
		conn, err := b.up(ctx)
		switch {
		case err == nil:
			b.serve(ctx, conn, !owned)
			wait, said, owned = shortestWait, "", true
			continue
		case errors.Is(err, vmnetd.ErrBusy) && !owned:
			return err
		case err.Error() != said && ctx.Err() == nil:
			b.o.Log.Warn("not on the bus: trying again until it works", "error", err, "next", vmnetd.NextOf(err))
			said = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, longestWait)
		}
	}
	return nil
}

// serve waits until the connection or ctx ends.
func (b *Bus) serve(ctx context.Context, conn *dbus.Conn, first bool) {
	b.set(conn)
	b.o.Log.Info("on the bus", "name", b.o.Name)
	if first {
		close(b.ready)
	}
	select {
	case <-conn.Context().Done():
		b.o.Log.Warn("the bus has gone")
	case <-ctx.Done():
	}
	b.set(nil)
	conn.Close()
}

func (b *Bus) up(ctx context.Context) (*dbus.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	conn, err := Dial(ctx, b.o.Address, b.o.Log, dbus.WithHandler(b.o.Handler))
	if err != nil {
		return nil, err
	}
	if err := b.own(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	if err := b.o.OnUp(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (b *Bus) own(ctx context.Context, conn *dbus.Conn) error {
	var got dbus.RequestNameReply
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.RequestName", 0, b.o.Name, dbus.NameFlagDoNotQueue).Store(&got)
	var refused dbus.Error
	switch {
	case errors.As(err, &refused) && refused.Name == "org.freedesktop.DBus.Error.AccessDenied":
		// Its own words name the connection, which is another one each time.
		return vmnetd.Errorf(vmnetd.ErrDenied, "the policy of the bus does not let us have the name %s", b.o.Name).
			WithNext("run as root, put the package's " + b.o.Name + ".conf into /usr/share/dbus-1/system.d, and  systemctl reload dbus")
	case err != nil:
		return vmnetd.Errorf(vmnetd.ErrFailed, "the bus does not give us the name %s: %w", b.o.Name, err)
	case got == dbus.RequestNameReplyPrimaryOwner || got == dbus.RequestNameReplyAlreadyOwner:
		return nil
	}
	var pid uint32
	if conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, b.o.Name).Store(&pid) != nil {
		return vmnetd.Errorf(vmnetd.ErrBusy, "another process owns %s on the bus", b.o.Name).WithNext("stop it first: systemctl stop vmnetd")
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "process %d owns %s on the bus already", pid, b.o.Name).WithNext("stop it first: systemctl stop vmnetd")
}
