package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// LeakCheck is the body of a TestMain: it runs the tests and fails when they
// leave a file descriptor open.
func LeakCheck(m *testing.M) {
	startPoller()
	before := OpenFDs()
	code := m.Run()
	if left := leaked(before); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "%d file descriptors were left open:\n%s\n", len(left), strings.Join(left, "\n"))
		code = 1
	}
	os.Exit(code)
}

// OpenFDs lists what the process has open, each as "number -> target". What
// the Go runtime keeps for itself is left out.
func OpenFDs() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var open []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil || target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" {
			continue // the descriptor of this very listing, and the poller
		}
		open = append(open, e.Name()+" -> "+target)
	}
	return open
}

// leaked is what is open now and was not before. What is on its way out, such
// as a process that is being waited for, gets two seconds.
func leaked(before []string) []string {
	deadline := time.Now().Add(2 * time.Second)
	for {
		left := slices.DeleteFunc(OpenFDs(), func(fd string) bool { return slices.Contains(before, fd) })
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// startPoller makes the runtime open its poller before the first count.
func startPoller() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	_ = r.Close()
	_ = w.Close()
}
