package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := untilStopped(context.Background(), os.Interrupt, unix.SIGTERM)
	context.AfterFunc(ctx, stop) // from the second signal on the default action: it kills
	os.Exit(run(ctx, os.Args[1:], systemStdio()))
}

// run is the whole program but for os.Exit.
func run(ctx context.Context, args []string, io stdio) int {
	return newApp(io).run(ctx, args)
}

// untilStopped is a context that signals end. A signal that our caller ignores
// (nohup, a shell's background job) stays ignored: exec hands its disposition
// on to QEMU, and a handler would turn it into the default, death.
func untilStopped(ctx context.Context, signals ...os.Signal) (context.Context, context.CancelFunc) {
	var heard []os.Signal
	for _, s := range signals {
		if !signal.Ignored(s) {
			heard = append(heard, s)
		}
	}
	if len(heard) == 0 { // which NotifyContext would take for all of them
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, heard...)
}
