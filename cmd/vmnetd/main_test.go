package main

import (
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSignalEndsTheCommandUnlessOurCallerIgnoresIt(t *testing.T) {
	signal.Ignore(unix.SIGUSR2)
	defer signal.Reset(unix.SIGUSR2)
	ctx, stop := untilStopped(t.Context(), unix.SIGUSR1, unix.SIGUSR2)
	defer stop()
	if !signal.Ignored(unix.SIGUSR2) {
		t.Error("an ignored signal got a handler")
	}
	alone, stop2 := untilStopped(t.Context(), unix.SIGUSR2)
	defer stop2()
	if err := unix.Kill(unix.Getpid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("the signal ended nothing")
	}
	if alone.Err() != nil {
		t.Error("a context without signals to hear was ended by another signal")
	}
}
