package main

import (
	"fmt"
	"os"
	"slices"
)

// scope is a testkit.TB for a program that is no test.
type scope struct{ cleanups []func() }

// fatal is what Fatalf panics with.
type fatal struct{ text string }

func (*scope) Helper()             {}
func (*scope) Name() string        { return "vmtier" }
func (*scope) Logf(string, ...any) {}
func (*scope) Failed() bool        { return false }
func (s *scope) Cleanup(f func())  { s.cleanups = append(s.cleanups, f) }

func (*scope) Fatalf(format string, args ...any) { panic(fatal{fmt.Sprintf(format, args...)}) }

// TempDir is short, because a unix socket's path has at most 107 bytes.
func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp("", "vmtier-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// within runs f and what it left to clean up, the last first. What f ends with
// Fatalf is an error.
func within(f func(s *scope)) (err error) {
	s := &scope{}
	defer func() {
		for _, c := range slices.Backward(s.cleanups) {
			c()
		}
	}()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatal:
			err = fmt.Errorf("%s", r.text)
		default:
			panic(r)
		}
	}()
	f(s)
	return nil
}
