package testkit

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ServeDHCP runs dnsmasq(8) on a device of a namespace until the test ends. It has
// the addresses that the device has; options say what it gives, such as
// --dhcp-range. Its leases last two minutes at least.
func ServeDHCP(t TB, n *Netns, device string, options ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := n.Command(ctx, "dnsmasq", append([]string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=" + device, "--bind-interfaces",
		"--dhcp-authoritative", "--no-ping", "--user=root", "--group=root", "--pid-file=",
		"--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases"), "--log-facility=-",
	}, options...)...)
	serve(t, cmd, "sockets bound exclusively", cancel)
}

// ServeShortLeases runs udhcpd (busybox) on a device of a namespace until the test
// ends; a lease of its lasts seconds. It knows clients by their MAC alone.
func ServeShortLeases(t TB, n *Netns, device string, first, last netip.Addr, lease time.Duration) {
	t.Helper()
	dir := t.TempDir()
	config := strings.Join([]string{
		"interface " + device, "start " + first.String(), "end " + last.String(), "min_lease 1", "lease_file " + filepath.Join(dir, "leases"),
		"pidfile " + filepath.Join(dir, "pid"), "option subnet 255.255.255.0", fmt.Sprintf("option lease %d\n", int(lease.Seconds())),
	}, "\n")
	path := filepath.Join(dir, "udhcpd.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	serve(t, n.Command(ctx, "busybox", "udhcpd", "-f", "-a", "10", path), "started", cancel)
}

// serve runs a server until the test ends, and returns once it has said that it
// serves.
func serve(t TB, cmd *exec.Cmd, ready string, end func()) {
	t.Helper()
	says, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		end()
		t.Fatalf("cannot start %s: %v", cmd, err)
	}
	said, begun, ended := &Output{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		waits := true
		for lines := bufio.NewScanner(says); lines.Scan(); {
			_, _ = said.Write(append(lines.Bytes(), '\n'))
			if waits && strings.Contains(lines.Text(), ready) {
				close(begun)
				waits = false
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		end()
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Args[len(cmd.Args)-1]), said)
		}
	})
	select {
	case <-begun:
	case <-ended:
		t.Fatalf("%s has ended:\n%s", cmd, said)
	case <-time.After(Patience):
		t.Fatalf("%s does not begin to serve:\n%s", cmd, said)
	}
}

// DHCPClient is udhcpc (busybox) in a guest, which gives its device the address that
// it leases.
type DHCPClient struct {
	cmd   *exec.Cmd
	lease string // the file that its script writes
	said  Output
	ended chan struct{}
}

// leaseScript is what udhcpc calls (busybox, examples/udhcp).
const leaseScript = `#!/bin/sh
case "$1" in
deconfig) ip -4 address flush dev "$interface" scope global ;;
bound|renew)
	ip address replace "$ip/$mask" dev "$interface"
	echo "$ip" >"$LEASE.new" && mv "$LEASE.new" "$LEASE" ;;
esac
`

// StartDHCP has the guest ask for an address. id is its client identifier (RFC 2132,
// option 61) in hexadecimal; "": none. options are more of udhcpc's, such as -r.
func (g *StackGuest) StartDHCP(t TB, id string, options ...string) *DHCPClient {
	t.Helper()
	dir := t.TempDir()
	c := &DHCPClient{lease: filepath.Join(dir, "lease"), ended: make(chan struct{})}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte(leaseScript), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatalf("%v", err)
	}
	args := []string{"udhcpc", "-f", "-R", "-i", GuestDevice, "-s", script, "-t", "30", "-T", "1", "-A", "1"}
	if id == "" {
		args = append(args, "-C")
	} else {
		args = append(args, "-x", "0x3d:"+id)
	}
	c.cmd = g.Command(context.Background(), "busybox", append(args, options...)...)
	c.cmd.Env = append(os.Environ(), "LEASE="+c.lease)
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("cannot start udhcpc: %v", err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	t.Cleanup(func() { c.end(unix.SIGKILL) })
	return c
}

// Lease waits for the address that the guest leases.
func (c *DHCPClient) Lease(t TB) netip.Addr {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(c.lease)
		if err == nil {
			ip, err := netip.ParseAddr(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatalf("udhcpc has leased %q: %v", text, err)
			}
			return ip
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest gets no lease:\n%s", &c.said)
		}
	}
}

// Said is what the client has logged.
func (c *DHCPClient) Said() string { return c.said.String() }

// Release gives the lease back; the client ends.
func (c *DHCPClient) Release() { c.end(unix.SIGTERM) }

// Vanish ends the client without a word, as a reset of its guest does.
func (c *DHCPClient) Vanish() { c.end(unix.SIGKILL) }

func (c *DHCPClient) end(sig unix.Signal) {
	select {
	case <-c.ended:
		return
	default:
	}
	_ = c.cmd.Process.Signal(sig)
	<-c.ended
}
