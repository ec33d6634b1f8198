package bus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// Client is a connection to the system bus that calls others and has no name of
// its own. It comes back when the bus does.
type Client struct {
	address string
	log     *slog.Logger
	prefix  string // of the names whose owners are watched, "" for none
	changed func(name, owner string)

	mu   sync.Mutex
	conn *dbus.Conn
}

// CallError is what the called side answered instead of a reply.
type CallError struct {
	Name string // org.libteam.teamd.NoSuchDev
	Text string
}

func (e *CallError) Error() string {
	if e.Text == "" {
		return e.Name
	}
	return e.Text
}

// NewClient makes a Client of a bus ("": Address()); Run connects it. changed
// hears of owners of names that begin with prefix + ".": by one match,
// however many there are; owner is "" when a name has lost its owner. After each
// connect it is called with two empty strings: what was before is not known.
func NewClient(address string, log *slog.Logger, prefix string, changed func(name, owner string)) *Client {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{address: address, log: log, prefix: prefix, changed: changed}
}

// Run keeps the connection until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	wait := shortestWait
	for ctx.Err() == nil {
		conn, signals, err := c.up(ctx)
		if err == nil {
			wait = shortestWait
			c.serve(ctx, conn, signals)
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
			wait = min(2*wait, longestWait)
		}
	}
	return nil
}

func (c *Client) up(ctx context.Context) (*dbus.Conn, chan *dbus.Signal, error) {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	conn, err := Dial(ctx, c.address, c.log, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, nil, err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if c.prefix != "" {
		err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg0Namespace(c.prefix))
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, signals, nil
}

func (c *Client) serve(ctx context.Context, conn *dbus.Conn, signals <-chan *dbus.Signal) {
	c.set(conn)
	defer conn.Close()
	defer c.set(nil)
	c.tell("", "")
	for {
		select {
		case s, open := <-signals:
			if !open {
				return
			}
			c.heard(s)
		case <-conn.Context().Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *Client) heard(s *dbus.Signal) {
	if s.Name != "org.freedesktop.DBus.NameOwnerChanged" || len(s.Body) != 3 {
		return
	}
	name, isName := s.Body[0].(string)
	owner, isOwner := s.Body[2].(string)
	if isName && isOwner && strings.HasPrefix(name, c.prefix) {
		c.tell(name, owner)
	}
}

func (c *Client) tell(name, owner string) {
	if c.changed != nil {
		c.changed(name, owner)
	}
}

func (c *Client) set(conn *dbus.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

// Call calls a method and gives what it returns. A *CallError is the other
// side's own; vmnetd.ErrUnreachable: there is no bus now.
func (c *Client) Call(ctx context.Context, dest, path, member string, args ...any) ([]any, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return nil, vmnetd.Errorf(vmnetd.ErrUnreachable, "the system bus is not reachable").WithNext("systemctl status dbus")
	}
	call := conn.Object(dest, dbus.ObjectPath(path)).CallWithContext(ctx, member, dbus.FlagNoAutoStart, args...)
	if e := (dbus.Error{}); errors.As(call.Err, &e) {
		return nil, &CallError{Name: e.Name, Text: textOf(e)}
	}
	return call.Body, call.Err
}

func textOf(e dbus.Error) string {
	if len(e.Body) == 0 {
		return ""
	}
	text, _ := e.Body[0].(string)
	return text
}
