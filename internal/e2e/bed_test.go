package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// binary is the program under test, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vmnetd-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "vmnetd")
	build := exec.Command("go", "build", "-o", binary, "github.com/vmnetd/vmnetd/cmd/vmnetd")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// bed is a host with an uplink u0, an outside that it leads to, and a bus.
type bed struct {
	t       testing.TB
	dir     string // holds everything: config, state, lib, sockets
	host    *testkit.Netns
	outside *testkit.Netns
	bus     string
	daemon  *daemon
	wrap    []string // a command that the daemon's is given to
}

const basicConfig = `
uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge, private, vepa]}
  - {name: whole, uplinks: [u0], modes: [passthru]}
rules:
  - {vm: "evil*", deny: "INC-4711"}
  - {vm: "*", networks: [lan]}
  - {vm: "*", networks: [whole], modes: [passthru]}
hypervisors: {libvirt: {uri: none}, qmp: {sockets: ["DIR/qmp/{vm}.sock"]}}
`

func newBed(t testing.TB, config string) *bed {
	t.Helper()
	if s, ok := t.(testkit.Skipper); ok {
		testkit.Require(s, "netns")
	}
	host, outside := testkit.NewNetns(t), testkit.NewNetns(t)
	testkit.NewVeth(t, host, "u0", outside, "o0")
	return newBedIn(t, config, host, outside)
}

// newBedIn is a bed in a namespace that has its uplink.
func newBedIn(t testing.TB, config string, host, outside *testkit.Netns) *bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnbed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bed{t: t, dir: dir, host: host, outside: outside, bus: testkit.StartBus(t)}
	for _, d := range []string{"qmp", "state", "lib"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.config(config)
	t.Cleanup(func() {
		if b.daemon != nil {
			b.kill()
		}
	})
	return b
}

// config writes the operator's file; DIR stands for the bed's folder.
func (b *bed) config(text string) {
	b.t.Helper()
	text = strings.ReplaceAll(text, "DIR", b.dir)
	if err := os.WriteFile(b.path("vmnetd.yaml"), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

// daemon is a running `vmnetd serve`.
type daemon struct {
	cmd  *exec.Cmd
	log  *testkit.Output
	done chan struct{}
	err  error
}

// start starts the daemon and waits until it says, as to systemd, that it is
// ready.
func (b *bed) start(env ...string) {
	b.t.Helper()
	ready := b.path("notify")
	_ = os.Remove(ready)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	d := b.launch(append(env, "NOTIFY_SOCKET="+ready)...)
	go func() {
		<-d.done
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}()
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			b.t.Fatalf("the daemon did not become ready: %v\n%s", err, d.log)
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return
		}
	}
}

// launch starts the daemon without waiting.
func (b *bed) launch(env ...string) *daemon {
	b.t.Helper()
	d := &daemon{log: &testkit.Output{}, done: make(chan struct{})}
	argv := append(slices.Clone(b.wrap), binary, "serve", "--config", b.path("vmnetd.yaml"), "--state-dir", b.path("state"), "--lib-dir", b.path("lib"))
	d.cmd = b.host.Command(context.Background(), argv[0], argv[1:]...)
	d.cmd.Env = append(append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+b.bus), env...)
	d.cmd.Stderr = d.log
	started := make(chan error)
	go func() { // starts it and lives as long: Pdeathsig follows the thread
		defer close(d.done)
		if err := d.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		d.err = d.cmd.Wait()
	}()
	if err := <-started; err != nil {
		b.t.Fatal(err)
	}
	b.daemon = d
	return d
}

// held is the setting with which the daemon stays at a failpoint, once, until letGo.
func (b *bed) held(p failpoint.Point) (setting string, letGo func()) {
	b.t.Helper()
	file := b.path("held")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprintf("%s=%s=1*hold(%s)", failpoint.Env, p, file), func() { _ = os.Remove(file) }
}

// kill ends the daemon as abruptly as it gets.
func (b *bed) kill() {
	_ = b.daemon.cmd.Process.Kill()
	<-b.daemon.done
}

// stop ends the daemon as systemd does.
func (b *bed) stop() {
	b.t.Helper()
	_ = b.daemon.cmd.Process.Signal(unix.SIGTERM)
	b.ended(10 * time.Second)
	if b.daemon.err != nil {
		b.t.Fatalf("stopped with %v\n%s", b.daemon.err, b.daemon.log)
	}
}

// ended waits until the daemon has ended by itself.
func (b *bed) ended(limit time.Duration) {
	b.t.Helper()
	select {
	case <-b.daemon.done:
	case <-time.After(limit):
		b.t.Fatalf("the daemon did not end within %s\n%s", limit, b.daemon.log)
	}
}

// result is what a command ended with.
type result struct {
	out, err string
	code     int
}

// command makes a command of vmnetd in the host's namespace.
func (b *bed) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := b.host.Command(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+b.bus)
	return cmd
}

func (b *bed) run(args ...string) result {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := b.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("vmnetd %v: %v", args, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to exit with code.
func (b *bed) must(code int, args ...string) result {
	b.t.Helper()
	r := b.run(args...)
	if r.code != code {
		b.t.Fatalf("vmnetd %s: exit %d, want %d\nstdout: %s\nstderr: %s\ndaemon: %s", strings.Join(args, " "), r.code, code, r.out, r.err, b.daemon.log)
	}
	return r
}

// attach runs `vmnetd attach --json`.
func (b *bed) attach(args ...string) vmnetd.Attachment {
	b.t.Helper()
	return parse[vmnetd.Attachment](b.t, b.must(0, append([]string{"attach", "--json"}, args...)...).out)
}

func (b *bed) list(vm ...string) []vmnetd.Attachment {
	b.t.Helper()
	return parse[[]vmnetd.Attachment](b.t, b.must(0, append([]string{"list", "--json"}, vm...)...).out)
}

func parse[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// ejectsPaused makes a q35 machine let go of NICs while its CPUs stand still:
// with native PCIe hot-plug a slot that was never powered is unplugged at once
// (QEMU hw/pci/pcie.c, pcie_cap_slot_unplug_request_cb).
var ejectsPaused = []string{"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"}

// vm starts a paused QEMU whose socket the daemon finds.
func (b *bed) vm(name string, o testkit.QEMUOptions) *testkit.QEMU {
	b.t.Helper()
	o.Name, o.QMPDir, o.Netns = name, b.path("qmp"), b.host.Do
	if o.RootPorts == 0 {
		o.RootPorts = 4
	}
	return testkit.StartQEMU(b.t, o)
}

func (b *bed) ejectingVM(name string) *testkit.QEMU {
	b.t.Helper()
	return b.vm(name, testkit.QEMUOptions{Args: ejectsPaused})
}

// devices lists the devices of ours in the host's namespace.
func (b *bed) devices() []string {
	b.t.Helper()
	var names []string
	err := b.host.Do(func() error {
		list, err := net.Interfaces()
		for _, i := range list {
			if strings.HasPrefix(i.Name, vmnetd.IfnamePrefix) {
				names = append(names, i.Name)
			}
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return names
}

// eventually waits until holds gives no error. A last look begins after the limit:
// what was held up may have been this process.
func (b *bed) eventually(what string, limit time.Duration, holds func() error) {
	b.t.Helper()
	began := time.Now()
	for {
		last := time.Since(began) > limit
		err := holds()
		if err == nil {
			if took := time.Since(began); took > soon {
				b.t.Logf("%s: after %s", what, took.Round(time.Millisecond))
			}
			return
		}
		if last {
			b.t.Fatalf("%s: %v\ndaemon: %s", what, err, b.daemon.log)
		}
		time.Sleep(5 * time.Millisecond) // between two looks; the limit above decides
	}
}

// signalled says whether the daemon ended by a signal.
func (d *daemon) signalled(sig syscall.Signal) bool {
	ws, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == sig
}

func ejecting(rootPorts int) testkit.QEMUOptions {
	return testkit.QEMUOptions{Args: ejectsPaused, RootPorts: rootPorts}
}

// newUplink puts u0 in again after it was deleted.
func (b *bed) newUplink() {
	b.t.Helper()
	testkit.NewVeth(b.t, b.host, "u0", b.outside, "o0")
	b.host.SetUp(b.t, "u0")
	b.outside.SetUp(b.t, "o0")
}

// left says which NICs there still are, and which devices of ours.
func (b *bed) left() error {
	b.t.Helper()
	if list, devices := b.list(), b.devices(); len(list) > 0 || len(devices) > 0 {
		return fmt.Errorf("%+v, %v", list, devices)
	}
	return nil
}

// nothing waits until nothing of ours is left.
func (b *bed) nothing() {
	b.t.Helper()
	b.nothingLeft(testkit.Patience)
}

func (b *bed) nothingLeft(limit time.Duration) {
	b.t.Helper()
	b.eventually("nothing is left", limit, b.left)
}
