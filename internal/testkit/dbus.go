package testkit

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Bus is a private dbus-daemon.
type Bus struct {
	Address string // for DBUS_SYSTEM_BUS_ADDRESS

	t      TB
	config string
	proc   *os.Process
	gone   chan struct{} // closed when proc has been waited for
}

// busConfig lets every user connect. The limits are those of the system bus
// (dbus 1.14, bus/config-parser.c) where a test could meet them.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  %s
</busconfig>
`

const busAllowsAll = `<policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="signal"/>
    <allow receive_type="method_return"/><allow receive_type="error"/>
    <allow send_destination="*" eavesdrop="false"/>
  </policy>`

// busAsSystem is the default policy of /usr/share/dbus-1/system.conf.
const busAsSystem = `<policy context="default">
    <allow user="*"/><deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="signal"/>
    <allow receive_type="method_return"/><allow receive_type="error"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <include>%s</include>`

// StartBus runs a private dbus-daemon that allows everybody everything, until
// the test ends, and returns its address.
func StartBus(t TB) (address string) {
	t.Helper()
	return NewBus(t).Address
}

// NewBus is StartBus for a test that restarts the bus.
func NewBus(t TB) *Bus {
	t.Helper()
	return newBus(t, busAllowsAll)
}

// NewBusWithPolicy runs a bus with the system bus's own policy and the policy
// file given.
func NewBusWithPolicy(t TB, file string) *Bus {
	t.Helper()
	abs, err := filepath.Abs(file)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return newBus(t, fmt.Sprintf(busAsSystem, abs))
}

func newBus(t TB, policy string) *Bus {
	t.Helper()
	// Not t.TempDir: a socket path has at most 107 bytes, and other users
	// must get there.
	dir, err := os.MkdirTemp("", "vmnbus")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "bus")
	b := &Bus{t: t, Address: "unix:path=" + socket, config: filepath.Join(dir, "bus.conf")}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(b.config, fmt.Appendf(nil, busConfig, socket, policy), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(b.Stop)
	b.Start()
	return b
}

// Start runs the daemon and returns when it listens.
func (b *Bus) Start() {
	b.t.Helper()
	started := make(chan error, 1)
	b.gone = make(chan struct{})
	go b.run(started, b.gone)
	if err := <-started; err != nil {
		b.t.Fatalf("cannot start dbus-daemon: %v", err)
	}
}

// Stop kills the daemon; its connections end.
func (b *Bus) Stop() {
	if b.proc == nil {
		return
	}
	_ = b.proc.Kill()
	<-b.gone
	b.proc = nil
}

// Restart is Stop and Start at the same address.
func (b *Bus) Restart() {
	b.t.Helper()
	b.Stop()
	b.Start()
}

// run owns the daemon's process. The thread stays with it: Pdeathsig fires when
// the thread that forked ends (prctl(2)), not when the process does.
func (b *Bus) run(started chan<- error, gone chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(gone)
	var says strings.Builder
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+b.config, "--print-address=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = &says
	out, err := cmd.StdoutPipe()
	if err != nil {
		started <- err
		return
	}
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	b.proc = cmd.Process
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		started <- fmt.Errorf("%w: %s", err, says.String())
		return
	}
	started <- nil
	_ = cmd.Wait()
}
