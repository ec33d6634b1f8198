package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/vmnetd/vmnetd"
)

// errNobodyAnswers says that standard input has ended.
var errNobodyAnswers = errors.New("nobody answers")

// countdown waits for ENTER as long as an apply can be confirmed, and says how
// long that is.
func (a *app) countdown(ctx context.Context, c client, applied vmnetd.Applied) error {
	a.undoneAt = a.clock(applied.Until)
	entered := lineOf(a.io.in)
	for {
		left := applied.Until.Sub(a.now())
		if left <= 0 {
			a.printf("\n")
			return vmnetd.Errorf(vmnetd.ErrFailed, "nobody confirmed, it is undone").WithNext("vmnetd status, and to try again  vmnetd uplink apply")
		}
		seconds := int((left + time.Second - 1) / time.Second)
		a.printf("\rkeep? press ENTER within %d s, otherwise it is undone ", seconds)
		select {
		case <-ctx.Done():
			a.printf("\n")
			return ctx.Err()
		case err := <-entered:
			if err != nil {
				a.printf("\n")
				return errNobodyAnswers
			}
			return a.keep(ctx, c, applied.ID)
		case <-a.after(left - time.Duration(seconds-1)*time.Second):
		}
	}
}

func (a *app) keep(ctx context.Context, c client, id string) error {
	if err := c.Confirm(ctx, id); err != nil {
		return err
	}
	a.printf("confirmed: it stays\n")
	return nil
}

// lineOf tells once when a line was typed, or that none can be. A read from a
// terminal cannot be called off: the goroutine ends with the process.
func lineOf(r io.Reader) <-chan error {
	typed := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(r).ReadString('\n')
		typed <- err
	}()
	return typed
}
