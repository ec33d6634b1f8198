package testkit

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGuestOfLibvirtIsSavedOnceAndRestoredByAnother(t *testing.T) {
	Require(t, "libvirt")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "cache"))
	shape := LibvirtGuestOptions{RootPorts: 1}
	for i, want := range []bool{true, false} {
		if made := SaveLibvirtGuest(t, shape); made != want {
			t.Fatalf("SaveLibvirtGuest for the time %d = %v, want %v", i+1, made, want)
		}
	}
	l := StartLibvirtd(t, LibvirtdOptions{})
	began := time.Now()
	g := RestoreLibvirtGuest(t, l, shape)
	t.Logf("restored after %s", time.Since(began))
	if out, err := g.Run(t.Context(), "echo here"); err != nil || out != "here\n" {
		t.Errorf("the restored guest says %q, %v", out, err)
	}
}

func TestVMGuestOfLibvirtIsRestoredAndGetsANIC(t *testing.T) {
	Require(t, "vm")
	host, _ := wired(t)
	l := StartLibvirtd(t, LibvirtdOptions{Netns: host.Do})
	began := time.Now()
	g := RestoreLibvirtGuest(t, l, LibvirtGuestOptions{})
	t.Logf("restored after %s", time.Since(began))
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x1c}
	file := filepath.Join(l.Dir, "nic.xml")
	if err := os.WriteFile(file, []byte(host.byName(t, "vmntest1", mac)), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Virsh("attach-device", g.Name, file)
	name, err := g.WaitIface(t.Context(), mac)
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.Run(t.Context(), "ip address add 192.0.2.2/24 dev "+name+"; ip link set "+name+" up; ping -c 1 -W 20 192.0.2.1")
	if err != nil || !strings.Contains(out, "1 packets received") {
		t.Errorf("ping of the peer: %v\n%s", err, out)
	}
}
