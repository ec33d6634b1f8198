package room

import (
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

func TestTryingAListenerLeavesItAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	says(t, Try(t.Context(), ServeOptions{Socket: path, Listener: fd}), vmnetd.ErrInvalid, "listener")
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Try(t.Context(), ServeOptions{Socket: path, Listener: fd}); err != nil {
			t.Error(err)
		}
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	says(t, Try(t.Context(), ServeOptions{Socket: path, Listener: 1_000_000}), vmnetd.ErrInvalid, "listener")
}
