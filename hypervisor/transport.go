package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/sys/unix"
)

// ErrClosed says that the connection to QEMU has ended, most likely because
// QEMU has.
var ErrClosed = errors.New("the connection to QEMU has ended")

// errNoGreeting: QEMU serves one client at a time and leaves the next one
// waiting in listen(2)'s queue, without a word (chardev/char-socket.c).
var errNoGreeting = errors.New("no greeting from QEMU")

// errNoReply: the command's own time limit, not the caller's.
var errNoReply = errors.New("QEMU does not answer")

// Conn is one connection to a QMP socket. It implements go-qemu's qmp.Monitor;
// go-qemu's own SocketMonitor aliases its read buffer, stops at replies over
// 64 KiB, and hangs on events that nobody reads. Its methods may be used by
// several goroutines at once.
type Conn struct {
	Version qmp.Version // QEMU's, known once connected

	limits Limits
	dial   func(ctx context.Context) (*net.UnixConn, error)
	events *eventQueue

	fds  chan struct{} // taken while an fd travels
	wmu  sync.Mutex    // one message at a time on the wire
	conn *net.UnixConn
	done chan struct{} // closed when the reader has ended
	left chan struct{} // closed by Disconnect

	mu    sync.Mutex
	last  uint64
	waits map[string]chan message // by the id as it is on the wire
	err   error                   // why there will be no more replies
	state connState
}

type connState int

const (
	idle connState = iota
	connected
	ended
)

var _ qmp.Monitor = (*Conn)(nil)

// NewConn prepares a connection to the socket at path; Connect makes it.
func NewConn(path string, limits Limits) *Conn {
	return newConn(func(ctx context.Context) (*net.UnixConn, error) {
		return dialUnix(ctx, path)
	}, limits)
}

func dialUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	var d net.Dialer
	return d.DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

func newConn(dial func(ctx context.Context) (*net.UnixConn, error), limits Limits) *Conn {
	return &Conn{
		limits: limits.withDefaults(), dial: dial, events: newEventQueue(),
		fds: make(chan struct{}, 1), done: make(chan struct{}), left: make(chan struct{}), waits: map[string]chan message{},
	}
}

// Connect implements qmp.Monitor. A Conn connects once.
func (c *Conn) Connect() error { return c.Open(context.Background()) }

// Open is Connect with a context: it waits for QEMU's greeting and switches to
// command mode.
func (c *Conn) Open(ctx context.Context) error {
	c.mu.Lock()
	if c.state != idle {
		c.mu.Unlock()
		return errors.New("this connection was used before")
	}
	c.state = connected
	c.mu.Unlock()
	conn, err := c.dial(ctx)
	if err != nil {
		c.fail(err)
		close(c.done)
		return err
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	dec := newDecoder(conn, c.limits.Message)
	if err := c.greet(ctx, dec); err != nil {
		c.fail(err)
		close(c.done)
		return err
	}
	go c.read(dec)
	if err := c.Do(ctx, "qmp_capabilities", nil, nil); err != nil {
		_ = c.Disconnect()
		return err
	}
	return nil
}

func (c *Conn) greet(ctx context.Context, dec *decoder) error {
	limit := time.Now().Add(c.limits.Greeting)
	if err := c.conn.SetReadDeadline(limit); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	m, err := dec.next()
	if !stop() && ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case isTimeout(err):
		return fmt.Errorf("%w within %v", errNoGreeting, c.limits.Greeting)
	case err != nil:
		return fmt.Errorf("%w before its greeting: %w", ErrClosed, err)
	case m.Greeting == nil:
		return errors.New("what answers is not QMP: it sent no greeting")
	}
	c.Version = m.Greeting.Version
	return c.conn.SetReadDeadline(time.Time{})
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Disconnect implements qmp.Monitor; calling it again does nothing.
func (c *Conn) Disconnect() error {
	c.fail(ErrClosed)
	c.mu.Lock()
	before := c.state
	c.state = ended
	c.mu.Unlock()
	if before == connected {
		close(c.left)
		<-c.done
	}
	return nil
}

// fail ends the connection; every call that waits gets err.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for id, wait := range c.waits {
		close(wait)
		delete(c.waits, id)
	}
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.events.close(c.err)
}

// read owns the receiving side until the connection ends.
func (c *Conn) read(dec *decoder) {
	defer close(c.done)
	for {
		m, err := dec.next()
		if err != nil {
			c.fail(fmt.Errorf("%w: %w", ErrClosed, err))
			return
		}
		if m.event != nil {
			if c.events.put(m) > c.limits.Message {
				c.fail(fmt.Errorf("%w: too many events wait to be read", errTooLong))
				return
			}
			continue
		}
		if !c.deliver(m) && m.Error != nil && m.ID == nil {
			c.fail(fmt.Errorf("QEMU could not read a command: %w", m.Error))
			return
		}
	}
}

// deliver hands a reply to who waits for it. A caller that gave up is gone from
// the list; its late reply is dropped.
func (c *Conn) deliver(m message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait, ok := c.waits[string(m.ID)]
	if ok {
		delete(c.waits, string(m.ID))
		wait <- m // has room for one
	}
	return ok
}

// Do runs a command and decodes what it returns into out (nil: not wanted). An
// error reply is an *Error. It waits for Limits.Command at the most, and ends
// the connection then: a QEMU that is frozen answers the next command no sooner.
func (c *Conn) Do(ctx context.Context, command string, args, out any) error {
	return c.do(ctx, command, args, out, -1)
}

// SendFD gives QEMU a copy of fd under a name (getfd). One fd travels at a
// time: QEMU keeps only those of the last message (chardev/char-socket.c,
// tcp_chr_recv).
func (c *Conn) SendFD(ctx context.Context, name string, fd int) error {
	select {
	case c.fds <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.fds }()
	return c.do(ctx, "getfd", map[string]string{"fdname": name}, nil, fd)
}

func (c *Conn) do(ctx context.Context, command string, args, out any, fd int) error {
	m, err := c.roundTrip(ctx, map[string]any{"execute": command}, args, fd)
	switch {
	case errors.Is(err, errNoReply):
		return fmt.Errorf("%w to %s within %v", errNoReply, command, c.limits.Command)
	case err != nil:
		return fmt.Errorf("%s: %w", command, err)
	case m.Error != nil:
		return fmt.Errorf("%s: %w", command, m.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, out); err != nil {
		return fmt.Errorf("%s returned something else than expected: %w", command, err)
	}
	return nil
}

// roundTrip sends msg with an id of ours and waits for the reply to it.
func (c *Conn) roundTrip(ctx context.Context, msg map[string]any, args any, fd int) (message, error) {
	if err := ctx.Err(); err != nil {
		return message{}, err
	}
	limit := time.Now().Add(c.limits.Command)
	id, wait, err := c.expect()
	if err != nil {
		return message{}, err
	}
	defer c.forget(id)
	msg["id"] = id
	if args != nil {
		msg["arguments"] = args
	}
	text, err := json.Marshal(msg)
	if err != nil {
		return message{}, err
	}
	if err := c.send(text, fd, limit); err != nil {
		return message{}, err
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case m, ok := <-wait:
		if !ok {
			return message{}, c.reason()
		}
		return m, nil
	case <-ctx.Done():
		return message{}, ctx.Err()
	case <-timer.C:
		c.fail(errNoReply)
		return message{}, errNoReply
	}
}

// expect registers a new id.
func (c *Conn) expect() (id string, wait chan message, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return "", nil, c.err
	case c.conn == nil || c.state != connected:
		return "", nil, errors.New("not connected")
	}
	c.last++
	id, wait = strconv.FormatUint(c.last, 10), make(chan message, 1)
	c.waits[onWire(id)] = wait
	return id, wait, nil
}

// onWire is an id as QEMU sends it back.
func onWire(id string) string { return `"` + id + `"` }

func (c *Conn) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waits, onWire(id))
}

func (c *Conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// send writes one message, with fd when it is not negative. A part of a message
// on the wire makes the connection useless, so any failure ends it.
func (c *Conn) send(text []byte, fd int, limit time.Time) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.conn.SetWriteDeadline(limit); err != nil {
		return c.failed(err)
	}
	text = append(text, '\n')
	if fd >= 0 {
		n, _, err := c.conn.WriteMsgUnix(text, unix.UnixRights(fd), nil)
		if err != nil {
			return c.failed(err)
		}
		text = text[n:] // the fd went with the first byte (unix(7))
	}
	if len(text) == 0 {
		return nil
	}
	if _, err := c.conn.Write(text); err != nil {
		return c.failed(err)
	}
	return nil
}

func (c *Conn) failed(err error) error {
	if isTimeout(err) {
		err = errNoReply
	} else {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	c.fail(err)
	return err
}

// Run implements qmp.Monitor: command is a QMP command as JSON, out the reply.
func (c *Conn) Run(command []byte) (out []byte, err error) {
	var msg map[string]any
	if err := json.Unmarshal(command, &msg); err != nil {
		return nil, fmt.Errorf("the command is not a JSON object: %w", err)
	}
	reply := struct {
		Return json.RawMessage `json:"return"`
		ID     any             `json:"id,omitempty"`
	}{ID: msg["id"]}
	m, err := c.roundTrip(context.Background(), msg, nil, -1)
	if err != nil {
		return nil, err
	}
	if m.Error != nil {
		return nil, m.Error
	}
	reply.Return = m.Return
	return json.Marshal(reply)
}

// Events implements qmp.Monitor. Every event since the greeting comes, once,
// to one of the readers; the channel is closed when ctx ends or the connection.
func (c *Conn) Events(ctx context.Context) (<-chan qmp.Event, error) {
	out := make(chan qmp.Event)
	go func() {
		defer close(out)
		for {
			ev, err := c.events.next(ctx)
			if err != nil {
				return
			}
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			case <-c.left:
				return // nobody may be reading, and nobody need end ctx
			}
		}
	}()
	return out, nil
}

// awaitDeleted waits for the DEVICE_DELETED that carries the device's id; another
// one, for the virtio device inside of it, comes before.
func (c *Conn) awaitDeleted(ctx context.Context, device string) error {
	for {
		ev, err := c.events.next(ctx)
		switch {
		case err != nil:
			return err
		case ev.Data["device"] != device:
		case ev.Event == "DEVICE_DELETED":
			return nil
		case ev.Event == "DEVICE_UNPLUG_GUEST_ERROR":
			return errKept
		}
	}
}
