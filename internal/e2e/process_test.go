package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// process is a program that runs in the host's namespace as long as the test.
type process struct {
	cmd  *exec.Cmd
	out  testkit.Output
	gone chan struct{}

	began time.Time
}

// spawn starts a program in the host's namespace with the bed's bus. It is
// killed when the test ends, or its process does.
func (b *bed) spawn(name string, args ...string) *process {
	b.t.Helper()
	p := &process{gone: make(chan struct{}), began: time.Now()}
	p.cmd = b.host.Command(context.Background(), name, args...)
	p.cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+b.bus)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // Pdeathsig follows the thread that started it (prctl(2))
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.gone)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.signal(unix.SIGKILL); <-p.gone })
	return p
}

// spawnAtTerminal is spawn for a program that SIGINT is sent to: what a shell
// runs in the background, such as these tests, ignores it.
func (b *bed) spawnAtTerminal(args ...string) *process {
	b.t.Helper()
	return b.spawn("env", append([]string{"--default-signal=INT", binary}, args...)...)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// wait waits for the program's end and gives its exit code, -1 after a signal.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.gone:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(60 * time.Second):
		t.Fatalf("%v does not end: %s", p.cmd.Args, &p.out)
	}
	return 0
}

// exe is the file name of the program that a process runs, "" when it has ended.
func exe(pid int) string {
	link, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return filepath.Base(link)
}

// openFiles is what a process has open, by number.
func openFiles(pid int) map[string]string {
	files := map[string]string{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil {
			files[filepath.Base(l)] = target
		}
	}
	return files
}

// tapQueues counts the tap queues that a process holds.
func tapQueues(pid int) int {
	n := 0
	infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, info := range infos {
		target, err := os.Readlink(strings.Replace(info, "/fdinfo/", "/fd/", 1))
		if err == nil && (strings.Contains(target, "tap") || target == "/dev/net/tun") {
			n++
		}
	}
	return n
}

// qmp runs one command on a QMP socket, waiting until QEMU listens.
func (b *bed) qmp(socket, command string, args any) json.RawMessage {
	b.t.Helper()
	var conn net.Conn
	b.eventually("QMP socket "+socket, 30*time.Second, func() (err error) {
		conn, err = net.Dial("unix", socket)
		return err
	})
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	dec, enc := json.NewDecoder(conn), json.NewEncoder(conn)
	var out json.RawMessage
	for _, c := range []string{"", "qmp_capabilities", command} {
		ask := map[string]any{"execute": c}
		if c == command && args != nil {
			ask["arguments"] = args
		}
		if c != "" {
			if err := enc.Encode(ask); err != nil {
				b.t.Fatal(err)
			}
		}
		out = b.qmpReply(dec, command)
	}
	return out
}

// qmpReply is the next answer; events are left out.
func (b *bed) qmpReply(dec *json.Decoder, command string) json.RawMessage {
	b.t.Helper()
	for {
		var m struct{ QMP, Return, Error json.RawMessage }
		if err := dec.Decode(&m); err != nil {
			b.t.Fatalf("%s: %v", command, err)
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", command, m.Error)
		}
		if m.QMP != nil || m.Return != nil {
			return m.Return
		}
	}
}

// sniffer hears every frame that comes in on a device.
type sniffer struct{ fd int }

func (b *bed) sniff(ifname string) *sniffer {
	b.t.Helper()
	index := b.outside.Link(b.t, ifname).Index
	s := &sniffer{}
	all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // network order
	err := b.outside.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
		if err != nil {
			return err
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = unix.Close(s.fd) })
	return s
}

// heard waits for a frame from a MAC.
func (s *sniffer) heard(mac net.HardwareAddr, within time.Duration) bool {
	deadline := time.Now().Add(within)
	buf := make([]byte, 1<<16)
	for time.Now().Before(deadline) {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds())+1)
		if err != nil || ready == 0 {
			continue
		}
		n, err := unix.Read(s.fd, buf)
		if err == nil && n >= 14 && bytes.Equal(buf[6:12], mac) {
			return true
		}
	}
	return false
}

// soon is the promise "within a second", and what a machine that runs other
// tests on every CPU may add. What it must never reach is the 2 s that a
// socket is given until somebody listens on it.
const soon = 1900 * time.Millisecond
