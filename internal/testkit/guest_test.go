package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBootedGuestGetsAHotPluggedNICAndPings(t *testing.T) {
	Require(t, "netns")
	// Not t.TempDir: a socket path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "vmnguest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	host := NewNetns(t)
	var options []GuestOptions
	for _, machine := range []string{"q35", "pc"} {
		options = append(options, GuestOptions{
			Name: machine, Machine: machine, QMPSocket: filepath.Join(dir, machine), Netns: host.Do,
		})
	}
	for i, g := range BootGuests(t, options...) {
		t.Run(g.Name, func(t *testing.T) { plugAndPing(t, host, g, options[i]) })
	}
}

func plugAndPing(t *testing.T, host *Netns, g *Guest, o GuestOptions) {
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	mac, err := net.ParseMAC("52:54:00:00:00:0f")
	if err != nil {
		t.Fatal(err)
	}
	monitor := dialQMP(t, o.QMPSocket)
	monitor("netdev_add", map[string]any{"type": "tap", "id": "n0", "ifname": "tap0", "script": "no", "downscript": "no"})
	nic := map[string]any{"driver": "virtio-net-pci", "netdev": "n0", "id": "nic0", "mac": mac.String()}
	if o.Machine == "q35" {
		nic["bus"] = "rp0"
	}
	monitor("device_add", nic)
	if out, err := host.Command(ctx, "ip", "address", "add", "192.0.2.1/24", "dev", "tap0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	host.SetUp(t, "tap0")
	name, err := g.WaitIface(ctx, mac)
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.Run(ctx, "ip link set "+name+" up; ip addr add 192.0.2.2/24 dev "+name+"; ping -c 1 -W 20 192.0.2.1")
	if err != nil || !strings.Contains(out, "1 packets received") {
		t.Errorf("ping of the host: %v\n%s", err, out)
	}
	var exit *GuestExitError
	if out, err := g.Run(ctx, "ping -c 1 -W 1 192.0.2.3"); !errors.As(err, &exit) || exit.Code == 0 {
		t.Errorf("ping of an address that nobody has: %v\n%s", err, out)
	}
	monitor("device_del", map[string]any{"id": "nic0"})
	if err := g.WaitNoIface(ctx, mac); err != nil {
		t.Errorf("the NIC is still there after device_del: %v", err)
	}
	g.Kill()
	if _, err := g.Run(ctx, "true"); !errors.Is(err, errGuestEnded) {
		t.Errorf("a command for a dead guest: %v", err)
	}
}

// dialQMP returns a function that runs one QMP command.
func dialQMP(t *testing.T, socket string) func(command string, args any) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	dec := json.NewDecoder(conn)
	if _, err := nextReply(dec); err != nil { // the greeting
		t.Fatal(err)
	}
	run := func(command string, args any) {
		t.Helper()
		if _, err := ask(conn, dec, command, args); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	run("qmp_capabilities", nil)
	return run
}

func TestGuestRunGivesOutputAndExitCodeAndOutlivesATimeout(t *testing.T) {
	Require(t, "netns")
	g := BootGuest(t, GuestOptions{Name: "run", SMP: 2})
	ctx := context.Background()
	if out, err := g.Run(ctx, "nproc"); err != nil || strings.TrimSpace(out) != "2" {
		t.Errorf("nproc = %q, %v; want 2", out, err)
	}
	var exit *GuestExitError
	if out, err := g.Run(ctx, `printf 'a\nb'; exit 3`); out != "a\nb" || !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("output %q, %v; want a, b and exit code 3", out, err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if out, err := g.Run(short, "echo late; sleep 100"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command over its time: %q, %v", out, err)
	}
	if out, err := g.Run(ctx, "echo next"); err != nil || out != "next\n" {
		t.Errorf("the command after it = %q, %v", out, err)
	}
	if _, err := g.Run(ctx, strings.Repeat("x", maxScript)); err == nil {
		t.Error("a script that the terminal would cut was taken")
	}
}

func TestGuestThatCannotBootSaysWhy(t *testing.T) {
	Require(t, "netns")
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	g, err := StartGuest(ctx, t, GuestOptions{Name: "wrong", Args: []string{"-device", "no-such-device"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.WaitUp(ctx); !errors.Is(err, errGuestEnded) || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("WaitUp = %v, want QEMU's own words", err)
	}
}
