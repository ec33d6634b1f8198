package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// threadPath is the namespace of the calling thread; /proc/self would be the
// one of the process's first thread.
const threadPath = "/proc/thread-self/ns/net"

// NS is a network namespace held by a file descriptor: it stays as long as
// that is open, with or without a process in it.
type NS struct {
	id identity

	mu    sync.Mutex
	fd    int // -1 once it is closed
	users int // of the descriptor, which is open as long as there are any
}

func hold(fd int, id identity) *NS { return &NS{id: id, fd: fd, users: 1} }

// identity tells namespaces apart: device and inode of their file in nsfs.
type identity struct{ dev, ino uint64 }

// Current is the namespace of the calling thread.
func Current() (*NS, error) { return Open(threadPath) }

// Open is the namespace that a file stands for: /proc/PID/ns/net, a bind mount
// of it, or /proc/PID/fd/N. A file that is none is looked at and not opened, which
// a device or a pipe would notice. os.ErrNotExist (errors.Is): there is no file.
func Open(path string) (*NS, error) {
	at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the network namespace %s: %w", path, err)
	}
	defer unix.Close(at)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(at, &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		return nil, fmt.Errorf("%s is not a network namespace", path)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/thread-self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the network namespace %s: %w", path, err)
	}
	ns, err := FromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("%s is not a network namespace", path)
	}
	return ns, nil
}

// FromFD is the namespace of an open descriptor, which it takes over, also when it
// fails.
func FromFD(fd int) (*NS, error) {
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = unix.Close(fd)
		return nil, errors.New("the descriptor is not that of a network namespace")
	}
	id, err := identify(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return hold(fd, id), nil
}

// New makes an empty namespace: its lo is down and nothing else is in it.
func New() (*NS, error) {
	var made *NS
	err := away(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		var err error
		made, err = Current()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make a network namespace: %w", err)
	}
	return made, nil
}

// Close lets go of the namespace.
func (n *NS) Close() error {
	n.mu.Lock()
	fd := n.fd
	n.fd = -1
	n.mu.Unlock()
	if fd < 0 {
		return nil
	}
	return n.leave(fd)
}

// Keep has the descriptor stay open until leave is called, once, whatever is closed
// before: for the kernel, where it was told the descriptor's number and nobody waits
// for it. os.ErrClosed: it is closed already.
func (n *NS) Keep() (leave func() error, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd < 0 {
		return nil, os.ErrClosed
	}
	n.users++
	fd := n.fd
	return func() error { return n.leave(fd) }, nil
}

func (n *NS) leave(fd int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users--; n.users > 0 {
		return nil
	}
	return unix.Close(fd)
}

// Fd is the descriptor, valid until Close; -1 afterwards.
func (n *NS) Fd() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fd
}

// Path names the namespace for other programs on this host, until Close.
func (n *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Fd()) }

// ID is device and inode of the namespace's file in nsfs, DEV:INO, as lsns(8) shows
// the latter. It can be another namespace's once this one has gone.
func (n *NS) ID() string { return fmt.Sprintf("%d:%d", n.id.dev, n.id.ino) }

// Clone is the same namespace by a descriptor of its own.
func (n *NS) Clone() (*NS, error) {
	fd, err := unix.FcntlInt(uintptr(n.Fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return hold(fd, n.id), nil
}

// Same says whether both are one namespace.
func (n *NS) Same(o *NS) bool { return n.id == o.id }

// Do runs f in the namespace and returns what f returns. When the calling
// thread is in it already, no privilege is needed and nothing is changed;
// otherwise f runs in a goroutine of its own. f must not start goroutines that
// count on the namespace: they have other threads.
func (n *NS) Do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if here, err := identifyPath(threadPath); err == nil && here == n.id {
		return f()
	}
	return away(func() error { return unix.Setns(n.Fd(), unix.CLONE_NEWNET) }, f)
}

// away calls leave and f on a thread of their own and brings the thread back.
// A thread that cannot be brought back ends with its goroutine, which the
// runtime does when a locked goroutine returns. A panic or Goexit (t.Fatal)
// in f goes on in the caller.
func away(leave, f func() error) error {
	var (
		err      error
		panicked any
		done     = make(chan bool, 1)
	)
	go func() {
		returned := false
		defer func() {
			panicked = recover()
			done <- returned
		}()
		err = thereAndBack(leave, f)
		returned = true
	}()
	if !<-done {
		if panicked != nil {
			panic(panicked)
		}
		runtime.Goexit()
	}
	return err
}

func thereAndBack(leave, f func() error) error {
	runtime.LockOSThread()
	home, err := Current()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if unix.Setns(home.Fd(), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		_ = home.Close()
	}()
	if err := leave(); err != nil {
		return fmt.Errorf("cannot enter the network namespace: %w", err)
	}
	return f()
}

func identify(fd int) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return identity{}, err
	}
	return identity{dev: st.Dev, ino: st.Ino}, nil
}

func identifyPath(path string) (identity, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return identity{}, err
	}
	return identity{dev: st.Dev, ino: st.Ino}, nil
}
