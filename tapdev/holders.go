package tapdev

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/proc"
)

// Holders finds the processes that hold a queue of the device open, this one
// included. complete is false when some process could not be searched: looking
// into one of another user takes CAP_SYS_PTRACE (init and kernel threads do not
// count). A device that has gone is held by nobody: the descriptors that are left
// reach nothing. Nor is one without queues.
func (h *Host) Holders(ctx context.Context, dev Device) (pids []int, complete bool, err error) {
	link, err := h.current(ctx, dev)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	k, _ := kindOf(link)
	if k.queues == nil {
		return nil, true, nil
	}
	number, mine, err := k.queues.mine(h, link)
	if err != nil {
		return nil, false, err
	}
	return h.search(ctx, func(pid, fd int, rdev uint64) (is, sure bool) {
		return rdev == number && mine(pid, fd), true
	})
}

// match says whether a process's descriptor of that character device is one that is
// looked for; not sure: that cannot be told.
type match func(pid, fd int, rdev uint64) (is, sure bool)

// search is one at a time: what it copies to look at it would be a holder to another.
func (h *Host) search(ctx context.Context, m match) (pids []int, complete bool, err error) {
	h.searching.Lock()
	defer h.searching.Unlock()
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false, vmnetd.Errorf(vmnetd.ErrFailed, "cannot list the processes: %w", err)
	}
	complete = true
	for _, entry := range procs {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if ctx.Err() != nil {
			return pids, false, ctx.Err()
		}
		holds, searched := holdsDevice(pid, h.execPatience, m)
		complete = complete && (searched || neverHolds(pid))
		if holds {
			pids = append(pids, pid)
		}
	}
	return pids, complete, nil
}

// looks is how often another process is looked through whose descriptors go away
// meanwhile; from ours goes what the look itself has opened.
const looks = 3

// holdsDevice looks through one process's descriptors of character devices. One that
// is about to run another program, as vmnetd exec is, shows none for a moment
// (proc.SeveralThreads).
func holdsDevice(pid int, execPatience time.Duration, m match) (holds, searched bool) {
	until := time.Now().Add(execPatience)
	for n := 1; ; n++ {
		holds, searched, shown, missed := look(pid, m)
		waits := shown == 0 && proc.SeveralThreads(pid) && time.Now().Before(until)
		if holds || !waits && (missed == 0 || n >= looks || pid == os.Getpid()) {
			return holds, searched
		}
		if waits {
			time.Sleep(time.Millisecond) // nothing tells of the end of an execve
		}
	}
}

// look is one look through those that are shown. missed is how many went away
// meanwhile.
func look(pid int, m match) (holds, searched bool, shown, missed int) {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, ended(err), -1, 0
	}
	searched = true
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		rdev, err := deviceNumber(path)
		if err != nil {
			searched = searched && ended(err)
			missed++
			continue
		}
		if rdev == 0 {
			continue
		}
		fd, _ := strconv.Atoi(e.Name())
		is, sure := m(pid, fd, rdev)
		if is {
			return true, true, len(entries), missed
		}
		searched = searched && sure
	}
	return false, searched, len(entries), missed
}

// deviceNumber is that of the character device that a descriptor is open on, 0 for
// what is none. It is not by stat(2), which waits for the server of a network file
// system, for ever when it is away.
func deviceNumber(path string) (uint64, error) {
	target, err := os.Readlink(path)
	if err != nil || !strings.HasPrefix(target, "/") { // socket:[…], pipe:[…], anon_inode:…
		return 0, err
	}
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return 0, err
	}
	return unix.Mkdev(st.Rdev_major, st.Rdev_minor), nil
}

// neverHolds says that a process which could not be searched need not be: a
// kernel thread has no descriptors, and init has none but its own and what its
// units stored with it, which a hypervisor does not. In a container or a
// sandbox init may well be more privileged than we are.
func neverHolds(pid int) bool {
	if pid == 1 {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ended(err)
	}
	// "PID (COMM) STATE PPID PGRP SESSION TTY TPGID FLAGS …" (proc(5)); COMM may
	// hold blanks and parentheses.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	const kernelThread = 0x00200000 // PF_KTHREAD, include/linux/sched.h
	return err == nil && flags&kernelThread != 0
}

// ended says that a process or a descriptor went away under the search, which
// leaves nothing unsearched.
func ended(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
