package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// LimitError says that a command ran longer than Options.Limit and was killed
// with its VM.
type LimitError struct{ Limit time.Duration }

func (e *LimitError) Error() string {
	return fmt.Sprintf("the command in the VM was still running after %s and was killed", e.Limit)
}

// ErrEnded says that the VM ended before the command did: its kernel was reset,
// was switched off or died.
var ErrEnded = errors.New("the VM ended before the command did")

var errNoStart = fmt.Errorf("the VM did not start the command within %s", bootLimit)

// Run boots a VM, runs the command in it, and returns the command's exit code.
// The VM is gone when Run returns; when ctx ends it is killed. An error says why
// there is no exit code, and shows the end of what the VM's kernel said.
func Run(ctx context.Context, o Options) (int, error) {
	o.setDefaults()
	if err := o.check(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "vmtest")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	mark := newMark()
	image, err := buildImage(ctx, dir, o, mark)
	if err != nil {
		return 0, err
	}

	ctx, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	m, err := startMachine(ctx, dir, image.args(o, dir))
	if err != nil {
		return 0, err
	}
	c := conversation{o: o, machine: m, mark: []byte(mark), kill: kill}
	code, err := c.run()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // everything else follows from it
	}
	kill(nil)
	m.wait()
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, m.postMortem())
	}
	return code, nil
}

func (o *Options) check() error {
	if len(o.Command) == 0 {
		return errors.New("there is no command to run in the VM")
	}
	for _, dir := range append([]string{o.Dir}, o.Writable...) {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("%q is not the full path of a directory", dir)
		}
	}
	return nil
}

// conversation is what is said between a VM and the program that runs it.
type conversation struct {
	o       Options
	machine *machine
	mark    []byte
	kill    context.CancelCauseFunc
}

// run passes on what the command prints until it has ended, and returns its exit
// code.
func (c conversation) run() (code int, err error) {
	boot := time.AfterFunc(bootLimit, func() { c.kill(errNoStart) })
	defer boot.Stop()
	stdout := &marked{from: c.machine.stdout, mark: c.mark}
	if _, err := stdout.next(io.Discard); err != nil {
		return 0, ErrEnded
	}
	boot.Stop()
	c.o.Started()
	limit := time.AfterFunc(c.o.Limit, func() { c.kill(&LimitError{c.o.Limit}) })
	defer limit.Stop()

	stderr := make(chan error, 1)
	go func() { stderr <- c.passErrors() }()
	if c.o.Terminal != nil {
		// It ends with the VM, or with the input, which is its owner's.
		go func() { _, _ = io.Copy(c.machine.stdin, c.o.Terminal.Input) }()
	}
	word, err := stdout.next(c.o.Stdout)
	if err != nil {
		c.kill(said(err))
	}
	if err := <-stderr; err != nil {
		return 0, said(err)
	}
	if _, err := fmt.Sscanf(word, "end %d", &code); err != nil {
		return 0, fmt.Errorf("the VM says %q", word)
	}
	return code, nil
}

// passErrors passes on standard error. A terminal has no such thing.
func (c conversation) passErrors() error {
	if c.o.Terminal != nil {
		return nil
	}
	stderr := &marked{from: c.machine.stderr, mark: c.mark}
	_, err := stderr.next(c.o.Stderr)
	return err
}

// said turns the end of a stream into what it means.
func said(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrEnded
	}
	return err
}
