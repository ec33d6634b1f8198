package dbusapi

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

// method is one row of the table in methods.go.
type method struct {
	in     string // signature of the arguments; run may rely on it
	action Action // "": nobody has to be asked
	run    func(ctx context.Context, c *call) ([]any, error)
}

// call is one method call.
type call struct {
	*node
	conn   *dbus.Conn
	sender string
	body   []any
	who    Subject // set where the method has an action
}

// boundMethod implements dbus.Method and dbus.ArgumentDecoder. godbus runs each
// call in a goroutine of its own, so a slow one blocks nobody.
type boundMethod struct {
	n *node
	m method
}

// NumArguments is for godbus's own decoder, which is not used.
func (boundMethod) NumArguments() int { return 0 }

// NumReturns is as little used.
func (boundMethod) NumReturns() int { return 0 }

// ArgumentValue is as little used.
func (boundMethod) ArgumentValue(int) any { return nil }

// ReturnValue is as little used.
func (boundMethod) ReturnValue(int) any { return nil }

// DecodeArguments implements dbus.ArgumentDecoder: the signature must be that
// of the contract, letter by letter.
func (b boundMethod) DecodeArguments(conn *dbus.Conn, sender string, msg *dbus.Message, body []any) ([]any, error) {
	got, _ := msg.Headers[dbus.FieldSignature].Value().(dbus.Signature)
	if got.String() != b.m.in {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs",
			[]any{"the arguments are (" + got.String() + "), they must be (" + b.m.in + ")"})
	}
	return []any{&call{node: b.n, conn: conn, sender: sender, body: body}}, nil
}

// Call implements dbus.Method.
func (b boundMethod) Call(args ...any) ([]any, error) {
	c, ok := args[0].(*call) // from DecodeArguments
	if !ok {
		return nil, dbus.ErrMsgInvalidArg
	}
	s := b.n.s
	if err := s.load.begin(c.sender); err != nil {
		return nil, toBus(err)
	}
	defer s.load.end(c.sender)
	ctx, cancel := context.WithTimeout(s.ctx, s.o.CallLimit)
	defer cancel()
	reply, err := s.answer(ctx, b.m, c)
	if err == nil {
		return reply, nil
	}
	if e := (*dbus.Error)(nil); errors.As(err, &e) {
		return nil, e
	}
	if e := (dbus.Error{}); errors.As(err, &e) {
		return nil, e
	}
	return nil, toBus(err)
}

// answer authorises and runs a call. A mistake of ours must not end the daemon
// of a host full of guests.
func (s *Server) answer(ctx context.Context, m method, c *call) (reply []any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("a D-Bus call panicked", "panic", p, "path", c.path, "stack", string(debug.Stack()))
			err = vmnetd.Errorf(vmnetd.ErrFailed, "vmnetd made a mistake in this call: %v", p).WithNext("please report it, with the journal: journalctl -u vmnetd")
		}
	}()
	if m.action != "" {
		if c.who, err = s.callers.find(ctx, c.conn, c.sender); err != nil {
			return nil, err
		}
		if err := s.o.Authorizer.Authorize(ctx, c.who, m.action); err != nil {
			return nil, err
		}
	}
	return m.run(ctx, c)
}

// callers remembers who is behind a unique name. A name is never given to a
// second connection in the life of a bus (D-Bus specification, "Unique
// Connection Names"), so nothing in it grows wrong; forget is for a new bus.
type callers struct {
	mu    sync.Mutex
	known map[caller]agent.Caller
}

type caller struct {
	conn *dbus.Conn
	name string
}

const mostCallers = 256

func newCallers() *callers { return &callers{known: map[caller]agent.Caller{}} }

func (c *callers) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
}

func (c *callers) find(ctx context.Context, conn *dbus.Conn, name string) (Subject, error) {
	key := caller{conn, name}
	c.mu.Lock()
	who, ok := c.known[key]
	c.mu.Unlock()
	if ok {
		return Subject{Caller: who, BusName: name}, nil
	}
	who, err := credentials(ctx, conn, name)
	if err != nil {
		return Subject{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= mostCallers {
		clear(c.known)
	}
	c.known[key] = who
	return Subject{Caller: who, BusName: name}, nil
}

// credentials asks the bus, which had them from the kernel (SO_PEERCRED).
func credentials(ctx context.Context, conn *dbus.Conn, name string) (agent.Caller, error) {
	var got properties
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionCredentials", 0, name).Store(&got)
	if err != nil {
		return agent.Caller{}, vmnetd.Errorf(vmnetd.ErrDenied, "the bus does not say who is calling: %w", err)
	}
	uid, ok := got["UnixUserID"].Value().(uint32)
	if !ok {
		return agent.Caller{}, vmnetd.Errorf(vmnetd.ErrDenied, "the bus does not say which user is calling")
	}
	pid, _ := got["ProcessID"].Value().(uint32)
	return agent.Caller{UID: uid, PID: int(pid)}, nil
}

// load counts the calls that run: it bounds those of one connection, and knows
// when the last one has ended.
type load struct {
	mu       sync.Mutex
	running  map[string]int // by sender
	stopping bool
	idle     chan struct{} // closed when stopping and nothing runs
}

const mostCalls = 64 // the bus itself allows 128 unanswered calls of a connection (dbus 1.14, bus/config-parser.c)

func newLoad() *load { return &load{running: map[string]int{}, idle: make(chan struct{})} }

func (l *load) begin(sender string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		return vmnetd.Errorf(vmnetd.ErrUnreachable, "the daemon is stopping").WithNext("ask again when it has started")
	}
	if l.running[sender] >= mostCalls {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%d calls of this connection are running", mostCalls).WithNext("wait for their answers")
	}
	l.running[sender]++
	return nil
}

func (l *load) end(sender string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[sender]--; l.running[sender] == 0 {
		delete(l.running, sender)
	}
	l.check()
}

// stop refuses calls from now on.
func (l *load) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	l.check()
}

func (l *load) check() {
	if !l.stopping || len(l.running) > 0 {
		return
	}
	select {
	case <-l.idle:
	default:
		close(l.idle)
	}
}

func sinceMicro(us uint64) time.Time { return time.UnixMicro(int64(min(us, 1<<62))) }
