package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	context.AfterFunc(ctx, stop) // from the second signal on the default action: it kills
	os.Exit(run(ctx, os.Args[1:], systemStdio()))
}

// run is the whole program but for os.Exit.
func run(ctx context.Context, args []string, io stdio) int {
	return newApp(io).run(ctx, args)
}
