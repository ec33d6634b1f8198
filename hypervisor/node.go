package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// node is a socket's node, held open (O_PATH): whatever happens to its path
// afterwards, this is the one that was checked and is connected to.
type node struct {
	path string
	fd   int
	stat unix.Stat_t
}

// nodeID tells a node from the one that takes its path later.
type nodeID struct {
	dev, ino uint64
	ctime    int64 // ns
}

func (n *node) id() nodeID { return idOf(&n.stat) }

func idOf(st *unix.Stat_t) nodeID {
	return nodeID{dev: st.Dev, ino: st.Ino, ctime: st.Ctim.Nano()}
}

// openNode opens the socket at base/rel. base is what an operator wrote and may
// be a link; beneath it no link is followed, and no directory may be one where
// anybody but root and its owner could put a socket of his own in the VM's name.
func openNode(base, rel string) (*node, error) {
	path := filepath.Join(base, rel)
	dir, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: base, Err: err}
	}
	fd, err := walk(dir, base, rel, checkDir)
	if err != nil {
		return nil, refused(err)
	}
	n := &node{path: path, fd: fd}
	if err := unix.Fstat(fd, &n.stat); err != nil {
		n.close()
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if n.stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		n.close()
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%s is not a socket", path)
	}
	return n, nil
}

// walk opens rel beneath a directory, which it closes, one name after the other, if
// check has nothing against any directory on the way. It is what openat2(2) does with
// RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, which a service with RestrictSUIDSGID= may
// not call. What cannot be opened is an fs.PathError.
func walk(dir int, at, rel string, check func(dir int, at string) error) (fd int, err error) {
	for {
		name, rest, more := strings.Cut(rel, "/")
		flags := 0
		if more {
			flags = unix.O_DIRECTORY
		}
		if err = check(dir, at); err == nil {
			at = filepath.Join(at, name)
			if fd, err = openBeneath(dir, name, flags); err != nil {
				err = &fs.PathError{Op: "open", Path: at, Err: err}
			}
		}
		_ = unix.Close(dir)
		if err != nil {
			return -1, err
		}
		if !more {
			return fd, nil
		}
		dir, rel = fd, rest
	}
}

// openBeneath opens what has that name in a directory (O_PATH): unix.ELOOP for a
// symbolic link, unix.EXDEV for what leads out of it.
func openBeneath(dir int, name string, flags int) (int, error) {
	if name == ".." {
		return -1, unix.EXDEV
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err == nil && !isLink(fd, "") {
		return fd, nil
	}
	if err == nil { // the link itself was opened
		_ = unix.Close(fd)
		return -1, unix.ELOOP
	}
	if errors.Is(err, unix.ENOTDIR) && isLink(dir, name) {
		return -1, unix.ELOOP
	}
	return -1, err
}

// isLink says that a name in a directory, or with "" what is open itself, is a
// symbolic link.
func isLink(fd int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// refused says why a socket's path is not gone.
func refused(err error) error {
	var at *fs.PathError
	switch {
	case !errors.As(err, &at):
		return err
	case errors.Is(err, unix.ELOOP):
		return vmnetd.Errorf(vmnetd.ErrDenied, "%s is, or is reached through, a symbolic link, which is not followed: %w", at.Path, at.Err).
			WithNext("name the socket by its real path")
	case errors.Is(err, unix.EXDEV):
		return vmnetd.Errorf(vmnetd.ErrDenied, "%s leads out of its directory: %w", at.Path, at.Err)
	}
	return err
}

// checkDir: the sticky bit does not help, it keeps others from removing a
// socket but not from being the first to make it. The group's write bit is also
// what ACLs show up as (acl(5), mask).
func checkDir(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	var who string
	switch {
	case st.Mode&0o002 != 0:
		who = "everybody"
	case st.Mode&0o020 != 0 && st.Gid != 0:
		who = fmt.Sprintf("group %d", st.Gid)
	default:
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrDenied, "%s can write to %s, so a socket in it proves nothing about the VM it is named after", who, path).
		WithNext("use a directory that only root or QEMU's user can write to, one for each user: chmod go-w " + path)
}

func (n *node) close() { _ = unix.Close(n.fd) }

// connect connects to the node itself, by way of the fd: no path to swap, and no
// limit of 107 bytes. A node that was made a moment ago is there before QEMU
// calls listen(2), so it gets until its age is limit.
func (n *node) connect(ctx context.Context, limit time.Duration) (*net.UnixConn, error) {
	deadline := time.Unix(n.stat.Ctim.Unix()).Add(limit)
	if latest := time.Now().Add(limit); deadline.After(latest) { // the clock was set back
		deadline = latest
	}
	pause := 2 * time.Millisecond
	for {
		conn, err := dialUnix(ctx, fmt.Sprintf("/proc/self/fd/%d", n.fd))
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.ECONNREFUSED) || !time.Now().Before(deadline) {
			return nil, &fs.PathError{Op: "connect", Path: n.path, Err: errnoOf(err)}
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// errnoOf drops net's own text, which names /proc/self/fd.
func errnoOf(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nobodyThere says that no QEMU is behind the path: there is no node, or nobody
// listens on it.
func nobodyThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ECONNREFUSED)
}
