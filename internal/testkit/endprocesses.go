package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// EndProcesses kills the processes that have that text, such as the name of a
// test's own folder, on their command line, and returns when they have ended:
// what outlives the program that started it would write there once more.
func EndProcesses(t TB, text string) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(2 * time.Millisecond) {
		left := killAll(text)
		switch {
		case left == 0:
			return
		case time.Now().After(deadline):
			t.Fatalf("%d processes with %s do not end", left, text)
		}
	}
}

func killAll(text string) (found int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
	for _, path := range paths {
		line, err := os.ReadFile(path)
		pid := 0
		if err != nil || !strings.Contains(string(line), text) {
			continue
		}
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil {
			found++
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return found
}
