package bus

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// Dial connects to the first bus of address ("": Address()) that answers, and
// greets it. It fails with vmnetd.ErrUnreachable.
func Dial(ctx context.Context, address string, log *slog.Logger, o ...dbus.ConnOption) (*dbus.Conn, error) {
	if address == "" {
		address = Address()
	}
	paths, err := sockets(address)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		conn, err := dial(ctx, path, log, o)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, vmnetd.Errorf(vmnetd.ErrUnreachable, "the system bus is not reachable: %w", errors.Join(errs...)).
		WithNext("start it (systemctl start dbus), or set DBUS_SYSTEM_BUS_ADDRESS")
}

func dial(ctx context.Context, path string, log *slog.Logger, o []dbus.ConnOption) (*dbus.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	// godbus shakes hands without a context.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	level := slog.LevelWarn
	dropped := func(err error) {
		log.Log(ctx, level, "dropped a D-Bus message that cannot be read", "error", err)
		level = slog.LevelDebug // once is news, anybody can send a thousand
	}
	conn, err := greet(&frames{Conn: raw, dropped: dropped}, o)
	if err == nil && !stop() {
		conn.Close()
		return nil, ctx.Err()
	}
	return conn, err
}

func greet(raw net.Conn, o []dbus.ConnOption) (*dbus.Conn, error) {
	conn, err := dbus.NewConn(raw, o...)
	if err != nil {
		raw.Close()
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		conn.Close()
		return nil, err
	}
	if err := conn.Hello(); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Answers says whether there is a bus at address now.
func Answers(ctx context.Context, address string) bool {
	conn, err := Dial(ctx, address, slog.New(slog.DiscardHandler))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
