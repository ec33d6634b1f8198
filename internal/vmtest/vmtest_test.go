package vmtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestHostCommandInTheVMGivesOutputErrorsAndExitCodeAndLibOutlivesAReboot(t *testing.T) {
	testkit.Require(t, "netns")
	results, lib := filepath.Join(t.TempDir(), "it's, a dir"), filepath.Join(t.TempDir(), "lib, kept")
	for _, dir := range []string{results, lib} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	first := Options{
		Command: []string{"sh", "-c", `
			echo "$1 $VALUE"; pwd; echo oops >&2; echo again >/dev/stderr
			ip link add b0 type bond mode active-backup && ip link add t0 type team && ip link add d0 type dummy || echo no devices
			ls /dev/vhost-net /dev/pts/ptmx
			stat -fc %T /sys/fs/cgroup /run
			[ -e /sys/class/net/bond0 ] && echo a bond0 of nobody
			touch /usr/bin/new-here || echo not writable
			echo kept >/var/lib/vmnetd/state; echo result >"$RESULTS/r"
			printf 'no newline'; exit 7`, "sh", "it's one word"},
		Env: []string{"VALUE=a 'b' $c", "RESULTS=" + results},
		Dir: results, Writable: []string{results}, Lib: lib, Stdout: &stdout, Stderr: &stderr, Limit: time.Minute,
	}
	code, err := Run(t.Context(), first)
	if err != nil || code != 7 {
		t.Errorf("exit code %d, %v; want 7", code, err)
	}
	want := "it's one word a 'b' $c\n" + results + "\n/dev/pts/ptmx\n/dev/vhost-net\ncgroup2fs\ntmpfs\nno newline"
	if stdout.String() != want || stderr.String() != "oops\nagain\n" {
		t.Errorf("stdout %q\n want %q\nstderr %q", stdout.String(), want, stderr.String())
	}
	if b, err := os.ReadFile(filepath.Join(results, "r")); err != nil || string(b) != "result\n" {
		t.Errorf("the result is %q, %v", b, err)
	}
	if _, err := os.Stat("/usr/bin/new-here"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the VM wrote to the machine: %v", err)
	}

	stdout.Reset()
	second := Options{
		Command: []string{"sh", "-c", "cat /var/lib/vmnetd/state; tty; stty size; echo $TERM; read x; echo got $x; exit 3"},
		Lib:     lib, Stdout: &stdout, Limit: time.Minute,
		Terminal: &Terminal{Input: strings.NewReader("typed\n"), Name: "vt100", Rows: 33, Cols: 77},
	}
	code, err = Run(t.Context(), second)
	if err != nil || code != 3 {
		t.Errorf("exit code %d, %v; want 3", code, err)
	}
	for _, line := range []string{"kept", "/dev/hvc0", "33 77", "vt100", "got typed"} {
		if !strings.Contains(stdout.String(), line+"\r\n") {
			t.Errorf("the terminal does not show %q: %q", line, stdout.String())
		}
	}
}

func TestHostHungCommandIsKilledWithItsConsoleShown(t *testing.T) {
	testkit.Require(t, "netns")
	var stdout bytes.Buffer
	_, err := Run(t.Context(), Options{
		Command: []string{"sh", "-c", "echo before; echo '<0>hung on purpose' >/dev/kmsg; exec sleep 1000"},
		Stdout:  &stdout, Limit: 20 * time.Second, // also for what it prints
	})
	var limit *LimitError
	if !errors.As(err, &limit) || !strings.Contains(err.Error(), "hung on purpose") {
		t.Errorf("a command that hangs: %v", err)
	}
	if stdout.String() != "before\n" {
		t.Errorf("what it printed before is %q", stdout.String())
	}
}

// cancelling is a writer that cancels at the first output.
type cancelling struct{ cancel func() }

func (c cancelling) Write(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

func TestHostInterruptedVMLeavesNothingBehind(t *testing.T) {
	testkit.Require(t, "netns")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(t.Context())
	// The kernel's console is there long before the command.
	stop := time.AfterFunc(time.Second, cancel)
	defer stop.Stop()
	_, err := Run(ctx, Options{Command: []string{"true"}, Stdout: cancelling{cancel}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted VM: %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		if line, _ := os.ReadFile(p); strings.Contains(string(line), tmp) {
			t.Errorf("a process is left: %s", strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
}
