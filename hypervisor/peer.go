package hypervisor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/proc"
)

// peer is who is at the other end of a socket.
type peer struct {
	pid      int    // 0 unless it is certain that this is the VM's QEMU
	listener int    // who called listen(2), QEMU or not; 0 when it is not visible here
	start    uint64 // of pid
	instance string
	args     Args // of pid
}

// identify finds out who is behind a connection. SO_PEERCRED names the process
// that called listen(2): a management program that passed the socket on
// is not QEMU, and its end would not be the VM's. So the process counts only
// when its command line is a QEMU's with this VM's name or this socket.
func identify(conn *net.UnixConn, n *node, name string) (peer, error) {
	cred, err := peerCred(conn)
	if err != nil {
		return peer{}, err
	}
	boot, err := proc.BootID()
	if err != nil {
		return peer{}, fmt.Errorf("cannot read the boot id: %w", err)
	}
	p := peer{listener: int(cred.Pid)}
	start, err := proc.StartTime(p.listener)
	args, ok := qemuArgs(p.listener, name, n)
	if err == nil && ok {
		p.pid, p.start, p.args = p.listener, start, args
		p.instance = fmt.Sprintf("%d:%d:%s", p.pid, p.start, boot)
		return p, nil
	}
	p.instance = fmt.Sprintf("socket:%d:%d:%d:%s", n.stat.Dev, n.stat.Ino, n.stat.Ctim.Nano(), boot)
	return p, nil
}

func peerCred(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var sysErr error
	if err := raw.Control(func(fd uintptr) {
		cred, sysErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, sysErr
}

// qemuArgs reads the process's command line; ok is false unless it is a QEMU's
// that names this VM or this socket.
func qemuArgs(pid int, name string, n *node) (args Args, ok bool) {
	exe, err := os.Readlink(procPath(pid, "exe"))
	program := strings.TrimSuffix(filepath.Base(exe), " (deleted)") // its package was upgraded
	if err != nil || !strings.Contains(program, "qemu") && program != "kvm" {
		return args, false
	}
	cmdline, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return args, false
	}
	args = ParseArgs(strings.Split(string(cmdline), "\x00"))
	if args.Name == name || args.ID == name {
		return args, true
	}
	return args, slices.ContainsFunc(args.Sockets, func(path string) bool { return sameSocket(pid, path, n) })
}

// sameSocket says whether path, as process pid sees it, is the node.
func sameSocket(pid int, path string, n *node) bool {
	if !filepath.IsAbs(path) {
		dir, err := os.Readlink(procPath(pid, "cwd"))
		if err != nil {
			return false
		}
		path = filepath.Join(dir, path)
	}
	if filepath.Clean(path) == n.path {
		return true
	}
	var st unix.Stat_t
	err := unix.Stat(procPath(pid, "root")+path, &st)
	return err == nil && st.Dev == n.stat.Dev && st.Ino == n.stat.Ino
}

func procPath(pid int, file string) string { return fmt.Sprintf("/proc/%d/%s", pid, file) }

// stopped says whether the process is frozen by a signal or a debugger
// (proc_pid_stat(5), states T and t).
func stopped(pid int) bool {
	b, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return false
	}
	rest := strings.TrimSpace(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return strings.HasPrefix(rest, "T") || strings.HasPrefix(rest, "t")
}

// program is what an operator knows a process as.
func program(pid int) string {
	b, err := os.ReadFile(procPath(pid, "comm"))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}
