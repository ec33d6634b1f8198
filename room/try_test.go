package room

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestTryingAListenerLeavesItAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if err := Try(t.Context(), ServeOptions{Socket: path, Listener: int(f.Fd())}); err != nil {
			t.Error(err)
		}
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	says(t, Try(t.Context(), ServeOptions{Socket: path, Listener: int(null.Fd())}), vmnetd.ErrInvalid, "listener")
}
