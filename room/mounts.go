package room

import (
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// initRoot is the file system as process 1 sees it (proc(5)).
const initRoot = "/proc/1/root"

// inMountsOfInit runs f in the mount namespace of process 1, if these paths are the
// same there: a process that goes on for months should not keep the one that its
// daemon happened to have, with all that was mounted in it. Else, and where it may
// not, f runs where we are.
func inMountsOfInit(f func() error, paths ...string) error {
	mounts, err := unix.Open("/proc/1/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return f()
	}
	defer unix.Close(mounts)
	for _, p := range paths {
		if !sameFile(p, filepath.Join(initRoot, p)) {
			return f()
		}
	}
	apart(func() {
		if unix.Unshare(unix.CLONE_FS) == nil {
			_ = unix.Setns(mounts, unix.CLONE_NEWNS)
		}
		err = f()
	})
	return err
}

// apart runs f on a thread that ends with it. The main thread would not end
// (runtime.LockOSThread), and /proc/PID shows the namespaces that it is in as the
// process's.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			apart(f) // the main thread is taken meanwhile
			return
		}
		f()
	}()
	<-done
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
