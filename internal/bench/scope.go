package main

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// scope is a testkit.TB for a program that is no test: it cleans up behind
// itself, the last first.
type scope struct {
	ctx      context.Context
	cleanups []func()
	tmp      string // where temporary directories are
}

func newScope(ctx context.Context) *scope { return &scope{ctx: ctx, tmp: "/var/tmp"} }

// fatal is what Fatalf panics with; recoverFatal makes it an error.
type fatal struct{ text string }

func (*scope) Helper()             {}
func (*scope) Name() string        { return "bench" }
func (*scope) Logf(string, ...any) {}
func (*scope) Failed() bool        { return false }
func (s *scope) Cleanup(f func())  { s.cleanups = append(s.cleanups, f) }

func (s *scope) Fatalf(format string, args ...any) {
	panic(fatal{fmt.Sprintf(format, args...)})
}

// must ends the program when err is not nil, or when it was interrupted.
func (s *scope) must(err error) {
	if s.ctx.Err() != nil {
		s.Fatalf("%v", s.ctx.Err())
	}
	if err != nil {
		s.Fatalf("%v", err)
	}
}

// TempDir is short, because a unix socket's path has at most 107 bytes, and not
// in /tmp: the daemon watches the folders above its sockets, and whatever others
// did there would be counted as its own work at rest.
func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp(s.tmp, "vmnetd-bench-")
	s.must(err)
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (*scope) recoverFatal(err *error) {
	switch r := recover().(type) {
	case nil:
	case fatal:
		*err = fmt.Errorf("%s", r.text)
	default:
		panic(r)
	}
}

func (s *scope) close() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
	s.cleanups = nil
}

// inner is a scope that ends before s does.
func (s *scope) inner() *scope {
	in := newScope(s.ctx)
	in.tmp = s.tmp
	s.Cleanup(in.close)
	return in
}
