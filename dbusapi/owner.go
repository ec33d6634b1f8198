package dbusapi

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/proc"
)

// ownerOf finds the process behind a pidfd that somebody sent.
func ownerOf(pidfd int) (agent.Owner, error) {
	pid, err := pidOf(pidfd)
	if err != nil {
		return agent.Owner{}, err
	}
	ended := vmnetd.Errorf(vmnetd.ErrNotFound, "the process that should own the NIC has ended")
	start, err := proc.StartTime(pid)
	if err != nil {
		return agent.Owner{}, ended
	}
	// Its pid could have gone to another process before stat was read, but not
	// while the pidfd says that it lives.
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); n != 0 || err != nil {
		return agent.Owner{}, ended
	}
	boot, err := proc.BootID()
	return agent.Owner{PID: pid, Start: start, Boot: boot}, err
}

// pidOf reads the pid of a pidfd: fdinfo has "Pid:", -1 when it was reaped, 0
// when it is none of our pid namespace (fs/pidfs.c, pidfd_show_fdinfo;
// kernel/fork.c before Linux 6.9). Only pidfds have that line, but a link to
// anything else is refused before its fdinfo is asked for.
func pidOf(pidfd int) (int, error) {
	bad := vmnetd.Errorf(vmnetd.ErrInvalid, "the file descriptor sent with the token is no pidfd of a process here")
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", pidfd))
	if err != nil || link != "anon_inode:[pidfd]" && !strings.HasPrefix(link, "pidfd:[") {
		return 0, bad
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, bad
	}
	for lines := bufio.NewScanner(bytes.NewReader(info)); lines.Scan(); {
		value, ok := strings.CutPrefix(lines.Text(), "Pid:")
		if !ok {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && pid > 0 {
			return pid, nil
		}
	}
	return 0, bad
}
