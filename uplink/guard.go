package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// GuardOptions is what a guard is told on its command line, and what it works
// with.
type GuardOptions struct {
	Conn       *rtnl.Conn
	Teams      *teaming.Teams
	Checkpoint string    // file of the apply that it guards
	ID         string    // of that apply: another one's checkpoint is not its own
	At         time.Time // no rollback because of time before that
	LibDir     string
	Boot       string // id of this boot
	FP         failpoint.Set
	Log        *slog.Logger
}

// RunGuard undoes an apply unless it is confirmed, and returns when either has
// happened. It is the body of  vmnetd uplink rollback --at.
func RunGuard(ctx context.Context, o GuardOptions) error {
	g := guard{o: o}
	g.changer = changer{
		kernel: newKernel(Options{Conn: o.Conn, Teams: o.Teams}), store: store{o.LibDir}, boot: o.Boot, fp: o.FP, log: o.Log,
		announce: greeter{o.Conn}.announce,
	}
	return g.run(ctx)
}

// guardGrace is how much later than the daemon the guard acts: a living daemon
// is faster, and tells what it does.
const guardGrace = time.Second

// guard takes an apply back when the daemon cannot: at the time set for it, and
// at once when the daemon is killed while it changes things, which is when the
// lock comes free and the checkpoint still says "changing". In between it
// waits for the file to change, and ends when it has gone.
type guard struct {
	changer
	o GuardOptions
}

func (g *guard) run(ctx context.Context) error {
	watch, err := watchFile(g.o.Checkpoint)
	if err != nil {
		return err
	}
	defer watch.Close()
	for ctx.Err() == nil {
		left, err := g.look(ctx)
		if err != nil || left == 0 {
			return err
		}
		if err := watch.wait(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

// look takes the lock and does what is to be done. left is how long to wait
// before the next look, 0 when the guard's work is over.
func (g *guard) look(ctx context.Context) (left time.Duration, err error) {
	unlock, err := g.store.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	c, err := g.store.loadCheckpoint()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	case c.ID != g.o.ID, c.Boot != g.boot, g.store.settled(c):
		return 0, nil
	}
	due := c.Due + guardGrace
	if c.Phase == waiting && proc.SinceBoot() < due {
		return max(due-proc.SinceBoot(), time.Until(g.o.At), time.Millisecond), nil
	}
	why := "nobody confirmed it in time"
	if c.Phase == changing {
		why = "vmnetd was killed in the middle of it"
	}
	return 0, g.takeBackAndTell(ctx, c, why)
}

// takeBackAndTell undoes an apply and leaves word of it.
func (c *changer) takeBackAndTell(ctx context.Context, cp checkpoint, why string) error {
	err := c.takeBack(ctx, cp)
	u := undone{ID: cp.ID, At: time.Now(), Why: why}
	if err != nil {
		u.Error = err.Error()
	}
	return errors.Join(err, c.store.tell(u))
}

// fileWatch wakes up when one file is replaced or removed (inotify(7)).
type fileWatch struct {
	f    *os.File // in the runtime's poller: waiting costs no thread
	name string
}

func watchFile(path string) (*fileWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	// The folder: the file itself is replaced by another one.
	_, err = unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_DELETE_SELF)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot watch %s: %w", path, err)
	}
	return &fileWatch{os.NewFile(uintptr(fd), "inotify"), filepath.Base(path)}, nil
}

// wait returns when the file was touched, after at most that long, or when ctx
// ends.
func (w *fileWatch) wait(ctx context.Context, most time.Duration) error {
	if err := w.f.SetReadDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		n, err := w.f.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case strings.Contains(string(buf[:n]), w.name+"\x00"): // no other file of ours ends so
			return nil
		}
	}
}

// Close ends the watch.
func (w *fileWatch) Close() error { return w.f.Close() }
