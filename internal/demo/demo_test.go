package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// patience is far above what the demo needs on a busy machine.
const patience = 4 * time.Minute

func TestDemoShowsEverythingAndLeavesNothingBehind(t *testing.T) {
	d := newDemo(t)
	if out, err := d.CombinedOutput(); err != nil || !strings.Contains(string(out), "16 of 16 shown") {
		t.Errorf("the demo failed: %v\n%s", err, out)
	}
	d.checkGone()
}

func TestDemoInterruptedTwiceLeavesNothingBehind(t *testing.T) {
	for _, when := range []string{"two guests boot", "the daemon is ready"} {
		d := newDemo(t)
		out, err := d.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for seen := false; lines.Scan(); {
			if !seen && strings.Contains(lines.Text(), when) {
				seen = true
				_ = d.Process.Signal(unix.SIGINT)
				_ = d.Process.Signal(unix.SIGINT)
			}
		}
		var exit *exec.ExitError
		if err := d.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
			t.Errorf("interrupted at %q it ended with %v, want exit code 130", when, err)
		}
		d.checkGone()
	}
}

// demo is a run of the demo with a temporary directory of its own.
type demo struct {
	*exec.Cmd
	t   *testing.T
	tmp string
}

func newDemo(t *testing.T) demo {
	t.Helper()
	testkit.Require(t, "netns")
	bin := t.TempDir()
	for program, source := range map[string]string{"vmnetd": "../../cmd/vmnetd", "demo": "."} {
		if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(bin, program), source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	// Not t.TempDir: a socket path has at most 107 bytes.
	tmp, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	d := demo{t: t, tmp: tmp, Cmd: exec.Command(filepath.Join(bin, "demo"), "-vmnetd", filepath.Join(bin, "vmnetd"))}
	d.Env = append(os.Environ(), "TMPDIR="+tmp)
	stop := time.AfterFunc(patience, func() { _ = d.Process.Signal(unix.SIGTERM) })
	t.Cleanup(func() { stop.Stop() })
	return d
}

// checkGone looks for files, and for processes that were told of them.
func (d demo) checkGone() {
	d.t.Helper()
	left, err := os.ReadDir(d.tmp)
	if err != nil || len(left) > 0 {
		d.t.Errorf("files are left: %v, %v", left, err)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		if line, _ := os.ReadFile(p); strings.Contains(string(line), d.tmp) {
			d.t.Errorf("a process is left: %s", strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
}
