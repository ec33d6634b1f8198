package testkit

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVMRestoredGuestTakesCommandsAndAHotPluggedNIC(t *testing.T) {
	Require(t, "vm")
	// Not t.TempDir: a socket path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "vmnguest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	host := NewNetns(t)
	o := GuestOptions{Name: "restored", Machine: "q35", QMPSocket: filepath.Join(dir, "q"), Netns: host.Do}
	began := time.Now()
	g := RestoreGuest(t, o)
	t.Logf("restored after %s", time.Since(began))
	out, err := g.Run(t.Context(), "cat /proc/uptime; ls /sys/class/net")
	if err != nil || strings.Contains(out, "eth") || !strings.Contains(out, "lo") {
		t.Errorf("the restored guest says %q, %v", out, err)
	}
	plugAndPing(t, host, g, o)
}

func TestGuestIsSavedOnceAndRestored(t *testing.T) {
	Require(t, "netns")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "it's, a cache"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootLimit)
	defer cancel()
	shape := GuestOptions{Name: "not part of it", RootPorts: 1}
	for i, want := range []bool{true, false} {
		if made, err := SaveGuest(ctx, shape); err != nil || made != want {
			t.Fatalf("SaveGuest for the time %d = %v, %v; want %v", i+1, made, err, want)
		}
	}
	if _, err := StartRestored(ctx, t, GuestOptions{RootPorts: 3}); err == nil {
		t.Error("a guest of another shape was restored")
	}
	g := RestoreGuest(t, GuestOptions{Name: "restored", RootPorts: 1})
	if out, err := g.Run(ctx, "echo here; exit 0"); err != nil || out != "here\n" {
		t.Errorf("the restored guest says %q, %v", out, err)
	}
}
