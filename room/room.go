package room

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/tapdev"
)

// Starter starts processes of ours in other namespaces (Units and Child are some).
type Starter interface {
	// Start runs `vmnetd room --socket PATH` in a new namespace (netns "") or, with
	// --netns, in that of a path, so that it outlives its caller. It returns once the
	// process listens; the error says what it said last.
	Start(ctx context.Context, netns, socket string) error
}

// Options is what Rooms work with.
type Options struct {
	RunDir  string       // where sockets of rooms are: /run/vmnetd
	Conn    *rtnl.Conn   // of the daemon's own namespace
	Devices *tapdev.Host // there
	Filters *filter.Host // there
	Starter Starter
	Program string // ours, absolute: what a process of another version is to become; "": it stays as it is
	Version string // of Program
	Log     *slog.Logger
}

// Rooms finds and makes places.
type Rooms struct {
	o    Options
	here *local
	turn chan struct{} // holds one token: whoever has it looks for vmnetd's own namespace

	mu   sync.Mutex
	own  *remote       // the last one that was found, also once it has gone
	came chan struct{} // closed when another one is found
}

// New makes Rooms; nothing is started.
func New(o Options) *Rooms {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Rooms{
		o: o, here: &local{conn: o.Conn, devices: o.Devices, filters: o.Filters},
		turn: make(chan struct{}, 1), came: make(chan struct{}),
	}
	r.turn <- struct{}{}
	return r
}

// Close lets go of vmnetd's own namespace, which stays.
func (r *Rooms) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil {
		return nil
	}
	return r.own.link.close()
}

// Here is the daemon's own namespace as a Place: no process is needed for it. The
// Place stays the Rooms'.
func (r *Rooms) Here() Place { return here{r.here} }

// Doctor says how vmnetd's own namespace is.
func (r *Rooms) Doctor(ctx context.Context) []vmnetd.Check {
	c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "own namespace"}
	p, err := r.Own(ctx, false)
	switch {
	case errors.Is(err, vmnetd.ErrNotFound):
		c.Text = "not there: it is made with the first ipvtap"
	case err != nil:
		c.Level, c.Text, c.Do = vmnetd.LevelFail, err.Error(), vmnetd.NextOf(err)
	default:
		devs, err := p.Ours(ctx)
		if err != nil {
			c.Level, c.Text, c.Do = vmnetd.LevelFail, err.Error(), vmnetd.NextOf(err)
			break
		}
		c.Text = r.inside(len(devs))
	}
	return []vmnetd.Check{c}
}
