package room

import (
	"context"
	"encoding/json"
	"net"
	"runtime/debug"
	"sync"

	"github.com/vmnetd/vmnetd"
)

// client is the daemon at the other end of a connection, as the process in the
// namespace sees it.
type client struct {
	*wire
	mu      sync.Mutex
	running map[uint64]context.CancelFunc
}

// serve answers requests, each in a goroutine of its own, until the connection ends.
func (s *server) serve(ctx context.Context, conn *net.UnixConn) {
	c := &client{wire: &wire{conn: conn}, running: map[uint64]context.CancelFunc{}}
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	defer conn.Close()
	if err := c.send(greeting{Protocol: protocol, Version: s.o.Version}, s.in.NS().Fd()); err != nil {
		return
	}
	for {
		var r request
		stray, err := c.receive(&r)
		closeFD(stray)
		if err != nil {
			return
		}
		if r.Verb == verbCancel {
			c.cancel(r.ID)
			continue
		}
		own, done := c.begin(ctx, r.ID)
		calls.Go(func() {
			defer done()
			s.answer(&call{ctx: own, in: s.in, s: s, c: c, request: r, fd: -1})
		})
	}
}

// begin gives a request a context that cancel ends.
func (c *client) begin(ctx context.Context, id uint64) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[id] = cancel
	return ctx, func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, id)
	}
}

func (c *client) cancel(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.running[id]; cancel != nil {
		cancel()
	}
}

// answer does what is asked for and sends the reply.
func (s *server) answer(c *call) {
	result, err := s.do(c)
	defer func() { closeFD(c.fd) }()
	r := reply{ID: c.ID}
	if err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r = reply{ID: c.ID, Error: failureOf(err)}
	}
	_ = c.c.send(r, c.fd) // whoever asked has gone
}

// do runs the verb. One that panics must not take the namespace along.
func (s *server) do(c *call) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a request panicked", "verb", c.Verb, "panic", p, "stack", string(debug.Stack()))
			err = vmnetd.Errorf(vmnetd.ErrFailed, "the process in the namespace failed at %q: %v", c.Verb, p)
		}
	}()
	do, known := verbs[c.Verb]
	if !known {
		return nil, vmnetd.Errorf(vmnetd.ErrUnsupported, "the process in the namespace knows no %q", c.Verb)
	}
	return do(c)
}

// tell sends a reply before the last one.
func (c *call) tell(result any) error {
	body, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return c.c.send(reply{ID: c.ID, Result: body}, -1)
}
