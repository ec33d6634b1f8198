// Package proc tells one run of a process from the next one, and when it ends.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// StartTime is when a process started, in clock ticks since boot (field 22 of
// /proc/PID/stat, proc(5)). With the PID and the boot id it names one run.
// os.ErrNotExist when there is no such process, also when it is a zombie.
func StartTime(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	dead := fields[state] == "Z" || fields[state] == "X"
	if dead && !several(fields) {
		return 0, os.ErrNotExist
	}
	return strconv.ParseUint(fields[startTime], 10, 64)
}

// SeveralThreads says that a process has several. Its first one may have ended before
// the others: for a moment in execve(2) by another one (fs/exec.c, de_thread), which
// then has its place. Until then the process looks like a zombie without descriptors.
func SeveralThreads(pid int) bool {
	fields, err := stat(pid)
	return err == nil && several(fields)
}

// Fields of /proc/PID/stat after the name: those that proc_pid_stat(5) calls 3, 20
// and 22.
const (
	state     = 0
	threads   = 17
	startTime = 19
)

func several(fields []string) bool { return fields[threads] != "0" && fields[threads] != "1" }

func stat(pid int) (fields []string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, unix.ESRCH) {
		return nil, os.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ") // the name may hold anything
	fields = strings.Fields(rest)
	if !ok || len(fields) <= startTime {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return fields, nil
}

// BootID is the identity of this boot (random(4)).
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// Process is one run of a process. Close it.
type Process struct {
	pid int
	f   *os.File // a pidfd in the runtime's poller: waiting costs no thread
}

// Open takes hold of the process; os.ErrNotExist when it has ended, or when the
// PID belongs to another run than start (0: any).
func Open(pid int, start uint64) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, os.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	p := &Process{pid: pid, f: os.NewFile(uintptr(fd), "pidfd")}
	if now, err := StartTime(pid); err != nil || start != 0 && now != start {
		_ = p.Close()
		return nil, os.ErrNotExist
	}
	return p, nil
}

// Wait returns nil once the process has ended, or ctx's error.
func (p *Process) Wait(ctx context.Context) error {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	if err := p.f.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(fds, 0)
		return n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Kill ends the process at once (SIGKILL); one that has ended is fine.
func (p *Process) Kill() error {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(sent, unix.ESRCH) {
		sent = nil
	}
	return errors.Join(err, sent)
}

// PID is the process's id.
func (p *Process) PID() int { return p.pid }

// Close lets go; a Wait under way returns.
func (p *Process) Close() error { return p.f.Close() }

// SinceBoot is CLOCK_BOOTTIME: clock_settime(2) and NTP do not move it, a machine
// that sleeps does not stop it.
func SinceBoot() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // fails for a clock that does not exist
	return time.Duration(now.Nano())
}
