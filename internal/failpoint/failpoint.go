// Package failpoint makes a step fail, wait or end the process on demand, so
// that tests provoke what an operator meets at the worst moment. It is compiled
// in and off: only the environment of the process, read once at the start, can
// switch a point on.
//
// VMNETD_FAILPOINTS=name=count*error,name=delay(250),name=2*kill
//
// count is how often the point acts before it is used up (without it: always);
// SKIP+count lets it pass SKIP times before that; delay is in milliseconds;
// hold(FILE) waits as long as there is a file of that name, a full path; kill is
// SIGKILL to oneself, as abrupt as it gets.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Env is the variable that switches points on.
const Env = "VMNETD_FAILPOINTS"

// Point names a step.
type Point string

// Set is the points that are switched on. A nil Set has none.
type Set map[Point]*action

type action struct {
	skip  atomic.Int64 // passes before the first act
	left  atomic.Int64 // -1: without end
	verb  string       // error, delay, hold, kill
	delay time.Duration
	file  string // what hold waits for
}

// Parse reads the text of the environment variable; it refuses points that no
// code has.
func Parse(text string) (Set, error) {
	set := Set{}
	for _, item := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, spec, _ := strings.Cut(item, "=")
		a, err := parseAction(spec)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", Env, item, err)
		}
		if !known(Point(name)) {
			return nil, fmt.Errorf("%s: there is no failpoint %q", Env, name)
		}
		set[Point(name)] = a
	}
	return set, nil
}

// count reads COUNT or SKIP+COUNT.
func (a *action) count(text string) error {
	if skip, after, ok := strings.Cut(text, "+"); ok {
		n, err := strconv.ParseInt(skip, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("what to skip is not a number")
		}
		a.skip.Store(n)
		text = after
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return fmt.Errorf("the count is not a number above 0")
	}
	a.left.Store(n)
	return nil
}

func parseAction(spec string) (*action, error) {
	a := &action{}
	a.left.Store(-1)
	if count, rest, ok := strings.Cut(spec, "*"); ok {
		if err := a.count(count); err != nil {
			return nil, err
		}
		spec = rest
	}
	switch {
	case spec == "error", spec == "kill":
		a.verb = spec
	case strings.HasPrefix(spec, "delay(") && strings.HasSuffix(spec, ")"):
		ms, err := strconv.Atoi(spec[len("delay(") : len(spec)-1])
		if err != nil || ms < 0 {
			return nil, fmt.Errorf("the delay is not a number of milliseconds")
		}
		a.verb, a.delay = "delay", time.Duration(ms)*time.Millisecond
	case strings.HasPrefix(spec, "hold(/") && strings.HasSuffix(spec, ")"):
		a.verb, a.file = "hold", spec[len("hold("):len(spec)-1]
	default:
		return nil, fmt.Errorf("want error, kill, delay(MS) or hold(/FILE)")
	}
	return a, nil
}

// Hit acts if p is switched on: it returns an error, waits, or does not return.
func (s Set) Hit(p Point) error {
	a := s[p]
	if a == nil || !a.take() {
		return nil
	}
	switch a.verb {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	case "delay":
		time.Sleep(a.delay)
		return nil
	case "hold":
		for a.held() {
			time.Sleep(holdPace)
		}
		return nil
	default:
		return fmt.Errorf("failpoint %s", p)
	}
}

// holdPace is the time between two looks at a file.
const holdPace = 5 * time.Millisecond

func (a *action) held() bool {
	_, err := os.Lstat(a.file)
	return err == nil
}

func (a *action) take() bool {
	if a.skip.Add(-1) >= 0 {
		return false
	}
	for {
		n := a.left.Load()
		if n == 0 {
			return false
		}
		if n < 0 || a.left.CompareAndSwap(n, n-1) {
			return true
		}
	}
}
