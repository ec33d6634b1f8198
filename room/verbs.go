package room

import (
	"context"

	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/tapdev"
)

// Verbs that are none of a Place's.
const (
	verbWatch  = "watch"
	verbCancel = "cancel"
	verbBecome = "become"
)

// call is one request that is worked on.
type call struct {
	ctx context.Context // ends with the connection, and when the request is cancelled
	in  *local
	s   *server
	c   *client
	request
	fd int // goes with the reply, which closes it; -1: none
}

// verbs is all that a process of ours does for its daemon.
var verbs = map[string]func(*call) (any, error){
	"findnic": with(func(c *call, a nicArgs) (any, error) { return c.in.FindNIC(c.ctx, a.VM, a.ID) }),
	"ours":    func(c *call) (any, error) { return c.in.Ours(c.ctx) },
	"settle":  with(func(c *call, a settleArgs) (any, error) { return c.in.Settle(c.ctx, a.Device, a.Settings) }),
	"setup":   with(func(c *call, a upArgs) (any, error) { return nil, c.in.SetUp(c.ctx, a.Device, a.Up) }),
	"remove":  with(func(c *call, a []tapdev.Device) (any, error) { return nil, c.in.Remove(c.ctx, a...) }),

	"guard":    with(func(c *call, a filter.Spec) (any, error) { return nil, c.in.Guard(c.ctx, a) }),
	"guardall": with(func(c *call, a []filter.Spec) (any, error) { return nil, c.in.GuardAll(c.ctx, a) }),
	"lost":     with(func(c *call, a []filter.Spec) (any, error) { return c.in.Lost(c.ctx, a) }),
	"holds":    with(func(c *call, a filter.Spec) (any, error) { return c.in.Holds(c.ctx, a) }),
	"unguard":  with(func(c *call, a []string) (any, error) { return nil, c.in.Unguard(c.ctx, a...) }),
	"counters": with(func(c *call, a string) (any, error) { return c.in.Counters(c.ctx, a) }),

	"answer": with(func(c *call, a tapdev.Device) (any, error) { return nil, c.in.Answer(c.ctx, a) }),
	"packets": with(func(c *call, a tapdev.Device) (result any, err error) {
		c.fd, err = c.in.Packets(c.ctx, a)
		return nil, err
	}),

	verbWatch:  func(c *call) (any, error) { return nil, follow(c) },
	verbBecome: with(func(c *call, a becomeArgs) (any, error) { return nil, c.s.become(c.ctx, a.Program) }),
}

// Arguments of the verbs that have several.
type (
	nicArgs struct {
		VM string `json:"vm"`
		ID string `json:"id"`
	}
	settleArgs struct {
		Device   tapdev.Device   `json:"device"`
		Settings tapdev.Settings `json:"settings"`
	}
	upArgs struct {
		Device tapdev.Device `json:"device"`
		Up     bool          `json:"up"`
	}
	becomeArgs struct {
		Program string `json:"program"` // its path
	}
)

// with reads a verb's arguments.
func with[A any](do func(c *call, args A) (any, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var a A
		if err := decode(c.Args, &a); err != nil {
			return nil, err
		}
		return do(c, a)
	}
}
