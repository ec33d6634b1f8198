package teaming

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// leavesNothing checks that there is neither a teamd, nor a device, nor a file.
func (l *lab) leavesNothing(t *testing.T) {
	t.Helper()
	if pid := l.pid(l.team); pid != 0 {
		t.Errorf("process %d", pid)
	}
	if link, err := l.ns.Conn().LinkByName(t.Context(), l.team); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("a device: %+v, %v", link, err)
	}
	if files, err := filepath.Glob(filepath.Join(runDir, l.team+".*")); err != nil || len(files) > 0 {
		t.Errorf("files: %q, %v", files, err)
	}
}

func TestVMABadRunnerLeavesNoFiles(t *testing.T) {
	l := newLab(t)
	err := l.Start(t.Context(), l.team, Config{Runner: Runner{Name: "bogus"}}, false)
	if !errors.Is(err, vmnetd.ErrFailed) || !strings.Contains(err.Error(), `No runner named "bogus"`) {
		t.Errorf("got %v", err)
	}
	l.leavesNothing(t)
}

// TestVMATeamdThatHangsAtTheStartLeavesNothing is about a program that makes the
// device, says something, and then never answers.
func TestVMATeamdThatHangsAtTheStartLeavesNothing(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nip link add %s type team\necho $$ > %s/pid\necho It has a cold.\nexec sleep 1000\n", l.team, dir)
	if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	err := l.Start(t.Context(), l.team, Config{Runner: Runner{Name: RoundRobin}}, false)
	if err == nil || !strings.Contains(err.Error(), "It has a cold.") || !strings.Contains(err.Error(), "does not answer within") {
		t.Errorf("got %v", err)
	}
	l.leavesNothing(t)
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proc.StartTime(pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func TestVMAStartThatFailsLeavesADeviceThatWasThere(t *testing.T) {
	l := newLab(t)
	l.start(t, Config{Runner: Runner{Name: RoundRobin}})
	if err := l.Kill(t.Context(), l.team); err != nil {
		t.Fatal(err)
	}
	before := l.ns.Link(t, l.team).Index
	for _, over := range []bool{false, true} {
		if err := l.Start(t.Context(), l.team, Config{Runner: Runner{Name: "bogus"}}, over); err == nil {
			t.Error("it starts")
		}
		if now := l.ns.Link(t, l.team).Index; now != before {
			t.Errorf("over %v: the device is another one", over)
		}
	}
}

func TestVMATeamdThatRunsIsNotStartedOver(t *testing.T) {
	l := newLab(t)
	l.start(t, Config{Runner: Runner{Name: RoundRobin}})
	pid := l.pid(l.team)
	for _, over := range []bool{false, true} {
		err := l.Start(t.Context(), l.team, Config{Runner: Runner{Name: Broadcast}}, over)
		if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), strconv.Itoa(pid)) {
			t.Errorf("over %v: %v", over, err)
		}
	}
	if l.pid(l.team) != pid {
		t.Error("it is another one now")
	}
	l.is(t, Config{Runner: Runner{Name: RoundRobin}})
}

func TestVMAPIDFileThatIsWrongIsNotBelieved(t *testing.T) {
	l, other := newLab(t), newLab(t)
	other.start(t, Config{Runner: Runner{Name: RoundRobin}})
	for what, pid := range map[string]int{"this process": os.Getpid(), "another team's teamd": other.pid(other.team)} {
		if err := os.WriteFile(l.pidFile(l.team), fmt.Appendf(nil, "%d\n", pid), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := l.Kill(t.Context(), l.team); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.WriteFile(l.pidFile(l.team), fmt.Appendf(nil, "%d\n", pid), 0o644); err != nil {
			t.Fatal(err)
		}
		l.start(t, Config{Runner: Runner{Name: RoundRobin}})
		if err := l.Kill(t.Context(), l.team); err != nil {
			t.Fatal(err)
		}
		l.ns.Delete(t, l.team)
	}
	if _, err := other.State(t.Context(), other.team); err != nil {
		t.Errorf("the other team's: %v", err)
	}
}

func TestVMTheVersionIsTeamds(t *testing.T) {
	version, err := newLab(t).Version(t.Context())
	if err != nil || !regexp.MustCompile(`^\d+\.\d+`).MatchString(version) {
		t.Errorf("%q, %v", version, err)
	}
}

// units starts services as processes of ours, in a namespace.
type units struct {
	l     *lab
	names []string
	argv  []string
	err   error
}

func (u *units) StartService(_ context.Context, name, _ string, argv []string) error {
	u.names, u.argv = append(u.names, name), slices.Clone(argv)
	if u.err != nil {
		return u.err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := u.l.ns.Do(cmd.Start); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}

func TestVMAServiceOfSystemdIsATeamdToo(t *testing.T) {
	u := &units{}
	l := newLab(t, func(o *Options) { o.Units = u })
	u.l = l
	c := Config{Runner: Runner{Name: LoadBalance}}
	l.start(t, c)
	l.is(t, c)
	if !slices.Equal(slices.Compact(u.names), []string{"vmnetd-teamd-" + l.team + ".service"}) || !filepath.IsAbs(u.argv[0]) || slices.Contains(u.argv, "-o") {
		t.Errorf("%q runs %q", u.names, u.argv)
	}
	starts(t, func() error { return l.Restart(t.Context(), l.team, c) })
	if !slices.Contains(u.argv, "-o") {
		t.Errorf("again: %q", u.argv)
	}
	if err := l.Kill(t.Context(), l.team); err != nil {
		t.Fatal(err)
	}
	l.ns.Delete(t, l.team)
	err := l.Start(t.Context(), l.team, Config{Runner: Runner{Name: "bogus"}}, false)
	said := (*vmnetd.Error)(nil)
	if !errors.As(err, &said) || !strings.Contains(said.Next, "journalctl -u "+u.names[0]) {
		t.Errorf("got %v", err)
	}
	l.leavesNothing(t)
	u.err = vmnetd.Errorf(vmnetd.ErrUnreachable, "no systemd")
	if err := l.Start(t.Context(), l.team, c, false); !errors.Is(err, vmnetd.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestVMASilentTeamdIsGivenUpAfterTwoSecondsOverBusAndSocket(t *testing.T) {
	for _, way := range []string{"socket", "bus"} {
		t.Run(way, func(t *testing.T) {
			l := newLab(t)
			if way == "bus" {
				l.onBus(t)
			}
			l.start(t, Config{Runner: Runner{Name: RoundRobin}})
			if err := unix.Kill(l.pid(l.team), unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			best := testkit.Patience // of a few: the machine may be at something else
			for tries := 0; tries < 3 && best > 2*answerLimit; tries++ {
				began := time.Now()
				_, err := l.State(t.Context(), l.team)
				best = min(best, time.Since(began))
				if !errors.Is(err, ErrSilent) || best < answerLimit {
					t.Fatalf("%v after %v", err, best)
				}
			}
			if best > 2*answerLimit {
				t.Errorf("it is given up after %v", best)
			}
			starts(t, func() error { return l.Restart(t.Context(), l.team, Config{Runner: Runner{Name: RoundRobin}}) })
			if _, err := l.State(t.Context(), l.team); err != nil {
				t.Error(err)
			}
		})
	}
}
