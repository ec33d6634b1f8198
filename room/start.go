package room

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/netns"
)

// arguments is the command line of a process of ours in a namespace.
func arguments(netns, socket string) []string {
	args := []string{"room", "--socket", socket}
	if netns != "" {
		args = append(args, "--netns", netns)
	}
	return args
}

// Units starts processes as transient services of systemd, which makes the namespace
// or enters it: the daemon's own unit may do neither.
type Units struct{ Program string }

// Start is Starter's.
func (u Units) Start(ctx context.Context, netns, socket string) error {
	what := "vmnetd's own network namespace"
	if netns != "" {
		what = "vmnetd in " + netns
	}
	return bus.Systemd{}.StartInNetns(ctx, bus.NetnsUnit{
		Name: unitName(socket), Description: what, Argv: append([]string{u.Program}, arguments(netns, socket)...),
		Netns: netns, Writable: filepath.Dir(socket),
	})
}

// unitName is vmnetd-room.service for /run/vmnetd/room.sock; a daemon with another
// folder has units of its own.
func unitName(socket string) string {
	name := "vmnetd-" + strings.TrimSuffix(filepath.Base(socket), ".sock")
	if dir := filepath.Dir(socket); dir != "/run/vmnetd" {
		sum := sha256.Sum256([]byte(dir))
		name += "-" + hex.EncodeToString(sum[:4])
	}
	return name + ".service"
}

// Child starts processes beside the daemon, each in a session of its own: for hosts
// without systemd. It takes CAP_SYS_ADMIN.
type Child struct{ Program string }

// startLimit is how long a process may take until it listens; it takes 20 ms.
const startLimit = 10 * time.Second

// Start is Starter's. What the process says on standard error before it lets go of
// it is why it does not start.
func (c Child) Start(ctx context.Context, netns, socket string) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.Command(c.Program, append(arguments(netns, socket), "--quiet")...)
	cmd.Dir, cmd.Stderr, cmd.Env = "/", write, withoutNotify(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = start(cmd, netns, filepath.Dir(socket))
	_ = write.Close()
	if err != nil {
		return whyNotStarted(c.Program, err)
	}
	go func() { _ = cmd.Wait() }() // no zombie; it may outlive us
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = read.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(read, 4<<10))
	switch {
	case len(said) > 0:
		return vmnetd.Errorf(vmnetd.ErrFailed, "the process for a network namespace does not start: %s", firstLine(said))
	case err != nil:
		_ = cmd.Process.Kill()
		return vmnetd.Errorf(vmnetd.ErrFailed, "the process for a network namespace does not start in time: %w", errors.Join(ctx.Err(), err)).WithNext("try again")
	}
	return nil
}

// withoutNotify keeps a process from telling the daemon's supervisor that it is ready:
// that would be taken for the daemon itself (sd_notify(3)).
func withoutNotify(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		return strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "WATCHDOG_")
	})
}

// start begins the process in a new network namespace, or in that of a path: a child
// begins where the thread that forks is.
func start(cmd *exec.Cmd, path, folder string) error {
	begin := cmd.Start
	if path == "" {
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNET
	} else {
		ns, err := netns.Open(path)
		if err != nil {
			return err
		}
		defer ns.Close()
		begin = func() error { return ns.Do(cmd.Start) }
	}
	return inMountsOfInit(begin, cmd.Path, folder)
}

func whyNotStarted(program string, err error) error {
	e := vmnetd.Errorf(vmnetd.ErrFailed, "cannot start a process in another network namespace: %w", err)
	switch {
	case errors.Is(err, unix.EPERM):
		return e.WithNext("it takes CAP_SYS_ADMIN, or systemd")
	case errors.Is(err, os.ErrNotExist):
		return e.WithNext("restart vmnetd: " + program + " was replaced or removed")
	}
	return e
}

func firstLine(said []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(said), []byte("\n"))
	return vmnetd.Printable(string(bytes.TrimPrefix(line, []byte("vmnetd: "))))
}
