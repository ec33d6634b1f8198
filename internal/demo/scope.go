package main

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// scope is a testkit.TB for a program that is no test: it cleans up behind
// itself in reverse order.
type scope struct {
	mu       sync.Mutex
	cleanups []func()
	failed   bool
}

func newScope() *scope { return &scope{} }

// fatal is what Fatalf panics with; recoverFatal makes it an error.
type fatal struct{ text string }

func (s *scope) Helper()             {}
func (s *scope) Name() string        { return "demo" }
func (s *scope) Logf(string, ...any) {}
func (s *scope) Failed() bool        { return s.failed }

func (s *scope) Fatalf(format string, args ...any) {
	s.failed = true
	panic(fatal{fmt.Sprintf(format, args...)})
}

func (s *scope) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// TempDir is short, because a unix socket's path has at most 107 bytes.
func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp("", "vmnetd-demo-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (s *scope) recoverFatal(err *error) {
	switch r := recover().(type) {
	case nil:
	case fatal:
		*err = fmt.Errorf("%s", r.text)
	default:
		panic(r)
	}
}

// close runs the clean-ups, the last first, and gives up after limit.
func (s *scope) close(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, f := range slices.Backward(s.cleanups) {
			f()
		}
	}()
	select {
	case <-done:
	case <-time.After(limit):
		fmt.Fprintln(os.Stderr, "demo: cleaning up takes too long, given up")
	}
}
