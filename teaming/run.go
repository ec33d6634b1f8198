package teaming

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/proc"
)

const (
	program = "teamd"
	runDir  = "/var/run/teamd" // teamd's own, for all network namespaces (teamd/config.h)

	// startLimit is how long a teamd may take until it answers; it takes 10 ms.
	startLimit = 5 * time.Second
	startPace  = 2 * time.Millisecond

	// lastWords is how long is listened to a teamd that has ended. What it said
	// is there by then; only a child of it could go on holding the socket.
	lastWords = 100 * time.Millisecond
)

// Start runs a teamd for a team. With over it takes over the device that is
// there, and whatever ports are in it (teamd -o); otherwise it makes it. It
// returns once teamd answers; the error says what teamd said last, and then
// there is neither a teamd nor a device that was not there before.
// vmnetd.ErrBusy: a teamd runs for that name, here or in another network
// namespace.
//
// teamd outlives us: it has no pipe to us, and a session or a unit of its own.
func (t *Teams) Start(ctx context.Context, team string, c Config, over bool) error {
	if pid := t.pid(team); pid != 0 {
		return vmnetd.Errorf(vmnetd.ErrBusy, "a teamd runs for %s already, process %d", vmnetd.Printable(team), pid).WithNext("vmnetd team list")
	}
	t.sweep(team) // a PID that belongs to another process now would keep teamd from starting
	_, err := t.o.Conn.LinkByName(ctx, team)
	makes := !over && errors.Is(err, vmnetd.ErrNotFound)
	argv := append([]string{program}, t.arguments(ctx, team, c, over)...)
	err = t.start(ctx, team, argv)
	if err != nil {
		err = errors.Join(err, t.clear(context.WithoutCancel(ctx), team, argv, makes))
	}
	return err
}

func (t *Teams) start(ctx context.Context, team string, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if t.o.Units != nil {
		return t.startUnit(ctx, team, argv)
	}
	return t.startChild(ctx, team, argv)
}

// clear removes what a start that failed has left: a teamd that fails by itself
// leaves nothing, one that was killed leaves its device. If another one came
// first, that is why ours failed, and all that is there is its.
func (t *Teams) clear(ctx context.Context, team string, argv []string, device bool) error {
	if pid := t.pid(team); pid != 0 && !slices.Equal(commandLine(pid)[1:], argv[1:]) {
		return nil
	}
	if err := t.Kill(ctx, team); err != nil || !device {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	l, err := t.o.Conn.LinkByName(ctx, team)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil
	}
	if err == nil && l.Kind == family {
		err = t.o.Conn.Delete(ctx, l.Index)
	}
	return err
}

func (t *Teams) arguments(ctx context.Context, team string, c Config, over bool) []string {
	args := []string{"-t", team, "-U", "-c", string(c.File(team))}
	if over {
		args = append(args, "-o")
	}
	// With -D and without a bus teamd does not start; its socket is enough.
	if t.o.BusAddress != "" && bus.Answers(ctx, t.o.BusAddress) {
		args = append(args, "-D")
	}
	return args
}

func (t *Teams) startUnit(ctx context.Context, team string, argv []string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return notInstalled(err)
	}
	argv[0] = path
	unit := "vmnetd-teamd-" + team + ".service"
	if err := t.o.Units.StartService(ctx, unit, "teamd of "+team, argv); err != nil {
		return err
	}
	err = t.ready(ctx, team, nil)
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "teamd of %s does not start: %w", team, err).WithNext("journalctl -u " + unit)
	}
	return nil
}

func notInstalled(err error) error {
	return vmnetd.Errorf(vmnetd.ErrUnsupported, "teamd cannot be run: %w", err).WithNext("apt install libteam-utils, or dnf install teamd")
}

// startChild runs teamd beside us, in the network namespace of the teams.
func (t *Teams) startChild(ctx context.Context, team string, argv []string) error {
	lines, theirs, err := hearing()
	if err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = theirs, theirs
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+t.o.BusAddress)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = t.o.Conn.Do(cmd.Start) // a child begins where the thread that forks is
	_ = theirs.Close()
	if err != nil {
		_ = lines.Close()
		return notInstalled(err)
	}
	said := t.hear(team, lines)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	err = t.ready(ctx, team, ended)
	if err == nil {
		return nil
	}
	_ = cmd.Process.Kill()
	<-ended
	_ = lines.SetReadDeadline(time.Now().Add(lastWords))
	<-said.ended
	return vmnetd.Errorf(vmnetd.ErrFailed, "teamd of %s does not start: %w", team, errors.Join(said.error(), err)).WithNext("vmnetd doctor")
}

var errEnded = errors.New("it has ended")

// ready waits until teamd answers, or has ended.
func (t *Teams) ready(ctx context.Context, team string, ended <-chan struct{}) error {
	tick := time.NewTicker(startPace) // its socket is there before it answers, and nothing says when
	defer tick.Stop()
	for {
		_, err := ask(ctx, t.socket(team), "StateItemValueGet", []string{"setup.pid"})
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("it does not answer within %v: %w", startLimit, err)
		case <-tick.C:
		}
	}
}

// Restart replaces a team's teamd, whatever that is doing, by one with that
// configuration. The device and its ports stay: a teamd that is killed touches
// neither, one that is asked to end deletes both.
func (t *Teams) Restart(ctx context.Context, team string, c Config) error {
	if err := t.Kill(ctx, team); err != nil {
		return err
	}
	return t.Start(ctx, team, c, true)
}

// Kill ends a team's teamd and leaves the device; none is fine. vmnetd.ErrBusy: the
// one that runs for that name is another network namespace's.
func (t *Teams) Kill(ctx context.Context, team string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	pid := t.pid(team)
	p, err := proc.Open(pid, 0)
	if pid == 0 || errors.Is(err, os.ErrNotExist) {
		t.sweep(team)
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if t.elsewhere(pid) {
		return vmnetd.Errorf(vmnetd.ErrBusy, "the teamd that runs for %s, process %d, is another network namespace's", vmnetd.Printable(team), pid).
			WithNext("give one of the two teams another name: teamd has its files by name, for all namespaces")
	}
	if t.pid(team) != pid { // p is whoever had that PID when it was opened
		return t.Kill(ctx, team)
	}
	if err := p.Kill(); err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot kill teamd of %s: %w", team, err)
	}
	if err := p.Wait(ctx); err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "teamd of %s does not end: %w", team, err)
	}
	t.sweep(team)
	return nil
}

// sweep removes what a killed teamd leaves in its folder.
func (t *Teams) sweep(team string) {
	for _, path := range []string{t.pidFile(team), t.socket(team)} {
		_ = os.Remove(path)
	}
}

func (t *Teams) pidFile(team string) string { return filepath.Join(runDir, team+".pid") }

// pid is the process of a team's teamd, 0 when none runs. The file alone is not
// trusted: it outlives a teamd that was killed.
func (t *Teams) pid(team string) int {
	text, err := os.ReadFile(t.pidFile(team))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return 0
	}
	if args := commandLine(pid); filepath.Base(args[0]) != program || !names(args, team) {
		return 0
	}
	return pid
}

// elsewhere says that a process is surely in another network namespace than the
// teams.
func (t *Teams) elsewhere(pid int) bool {
	ns, err := netns.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false
	}
	defer ns.Close()
	return !ns.Same(t.o.Conn.NS())
}

// commandLine is the arguments of a process, one that is "" when it has ended.
func commandLine(pid int) []string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// names says whether a teamd is that team's by its arguments; one whose
// configuration alone names the device may be.
func names(args []string, team string) bool {
	i := slices.IndexFunc(args, func(a string) bool { return a == "-t" || a == "--team-dev" })
	if i >= 0 && i+1 < len(args) {
		return args[i+1] == team
	}
	i = slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--team-dev=") })
	return i < 0 || args[i] == "--team-dev="+team
}

// hearing is a pair of sockets on which teamd talks to us. Unlike a pipe it
// does no harm when we die or do not listen: what it says is lost then, without
// SIGPIPE (net/unix/af_unix.c, unix_dgram_sendmsg) and without waiting.
func hearing() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "teamd's words"), os.NewFile(uintptr(fds[1]), "teamd's words"), nil
}
