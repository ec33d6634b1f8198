package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// qemuLine is the command line of a small QEMU that listens on the socket that
// the daemon knows the VM by.
func (b *bed) qemuLine(vm string, more ...string) []string {
	return append([]string{
		"qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg", "-machine", "q35", "-m", "64",
		"-name", "guest=" + vm, "-qmp", "unix:" + b.path("qmp/"+vm+".sock") + ",server=on,wait=off",
	}, more...)
}

// execVM starts `vmnetd exec VM` with flags, a paused QEMU and its arguments.
func (b *bed) execVM(vm string, flags []string, more ...string) *process {
	b.t.Helper()
	args := append(append([]string{"exec", vm}, flags...), "--")
	return b.spawn(binary, append(args, b.qemuLine(vm, append([]string{"-S", "{netdev}"}, more...)...)...)...)
}

// attachedVM waits until the VM's only NIC is attached.
func (b *bed) attachedVM(vm string) vmnetd.Attachment {
	b.t.Helper()
	var att vmnetd.Attachment
	b.eventually(vm+" attached", 30*time.Second, func() error {
		list := b.list(vm)
		if len(list) != 1 || list[0].Phase != vmnetd.Attached {
			return fmt.Errorf("%+v", list)
		}
		att = list[0]
		return nil
	})
	return att
}

func parseMAC(t testing.TB, text string) net.HardwareAddr {
	t.Helper()
	mac, err := net.ParseMAC(text)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

func TestExecBecomesQEMUWithItsNIC(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	p := b.execVM("vm1", []string{"--queues", "4"})
	b.qmp(b.path("qmp/vm1.sock"), "query-status", nil)
	if now := exe(p.pid()); now != "qemu-system-x86_64" {
		t.Errorf("the process became %s", now)
	}
	att := b.attachedVM("vm1")
	if att.Via != "exec" || att.Queues != 4 || att.Link != "up" {
		t.Errorf("attached as %+v", att)
	}
	if n := tapQueues(p.pid()); n != 4 {
		t.Errorf("QEMU holds %d queues: %v", n, openFiles(p.pid()))
	}
	filter := parse[[]struct {
		Name string
		MAC  string `json:"main-mac"`
	}](t, string(b.qmp(b.path("qmp/vm1.sock"), "query-rx-filter", nil)))
	if len(filter) != 1 || !strings.EqualFold(filter[0].MAC, att.MAC) || filter[0].Name != "vmn-net0" {
		t.Errorf("QEMU has %+v, want MAC %s", filter, att.MAC)
	}
	p.signal(unix.SIGTERM)
	if code := p.wait(t); code != 0 || !strings.Contains(p.out.String(), "terminating on signal 15") {
		t.Errorf("SIGTERM: exit %d, %s", code, &p.out)
	}
	b.nothing()
	b.stop()
}

// What runs in the guest is iPXE, the option ROM of QEMU's virtio card.
func TestGuestOfExecReachesTheOutside(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	s := b.sniff("o0")
	mac := parseMAC(t, "52:54:00:00:4e:01")
	args := append([]string{"exec", "vm1", "--queues", "2", "--mac", mac.String(), "--"}, b.qemuLine("vm1", "-boot", "n", "{netdev}")...)
	began := time.Now()
	p := b.spawn(binary, args...)
	if !s.heard(mac, 2*time.Minute) {
		t.Fatalf("no frame of the guest's: %s", &p.out)
	}
	t.Logf("first frame after %s", time.Since(began).Round(100*time.Millisecond))
	b.stop()
}

// A shell stands for QEMU where only the process matters.
func TestExecHandsOnOnlyTheQueuesAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	p := b.spawn(binary, "exec", "vm1", "--queues", "2", "--", "sh", "-c", `echo "$0 $@"; for f in /proc/$$/fd/*; do readlink $f; done; exit 7`, "{netdev}")
	if code := p.wait(t); code != 7 {
		t.Errorf("exit %d, want the program's own 7: %s", code, &p.out)
	}
	out := p.out.String()
	if n := strings.Count(out, "/dev/") - strings.Count(out, "/dev/null"); n != 2 || strings.Contains(out, "socket:") || strings.Contains(out, "eventpoll") || strings.Contains(out, "pidfd") {
		t.Errorf("handed on %d queues: %s", n, out)
	}
	if !strings.Contains(out, "-netdev tap,id=vmn-net0,fds=") || !strings.Contains(out, "mq=on,vectors=6") {
		t.Errorf("{netdev} became: %s", out)
	}
	b.nothing()

	p = b.spawn(binary, "exec", "vm1", "--", "sh", "-c", "kill -USR1 $$; sleep 60", "{netdev}")
	if p.wait(t); !strings.Contains(p.cmd.ProcessState.String(), "user defined signal 1") {
		t.Errorf("ended with %v, want its own signal", p.cmd.ProcessState)
	}
	b.nothing()
	b.stop()
}

func TestExecThatCannotRunQEMUExits125AndLeavesNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	text := b.path("no-program")
	if err := os.WriteFile(text, []byte("\x7fELF, but no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{125, "no-such-qemu", []string{"vm1", "--", "no-such-qemu", "{netdev}"}},
		{125, "no-program", []string{"vm1", "--", text, "{netdev}"}},
		{125, "INC-4711", []string{"evil1", "--", "qemu-system-x86_64", "{netdev}"}},
		{125, "nonet", []string{"vm1", "--network", "nonet", "--", "qemu-system-x86_64", "{netdev}"}},
		{2, "{netdev}", []string{"vm1", "--", "qemu-system-x86_64"}},
		{2, "alone", []string{"vm1", "--", "qemu-system-x86_64", "x{netdev}"}},
		{2, "--", []string{"vm1"}},
	} {
		if r := b.must(c.code, append([]string{"exec"}, c.args...)...); !strings.Contains(r.err, c.says) {
			t.Errorf("exec %v says %q, want something with %q", c.args, r.err, c.says)
		}
		b.nothing()
	}
	b.stop()
	if r := b.run("exec", "vm1", "--", "qemu-system-x86_64", "{netdev}"); r.code != 125 || !strings.Contains(r.err, "serve") {
		t.Errorf("without a daemon: exit %d, %s", r.code, r.err)
	}
}

func TestExecOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	one, two := b.execVM("vm1", nil), b.execVM("vm2", nil)
	before, _ := b.attachedVM("vm1"), b.attachedVM("vm2")
	b.kill()
	two.signal(unix.SIGKILL)
	two.wait(t)
	b.start()
	if list := b.list("vm2"); len(list) != 0 {
		t.Errorf("its QEMU ended while nobody watched: %+v", list)
	}
	if after := b.attachedVM("vm1"); after.Ifindex != before.Ifindex || after.Link != "up" {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if n := tapQueues(one.pid()); n != 1 {
		t.Errorf("QEMU holds %d queues", n)
	}
	one.signal(unix.SIGKILL)
	one.wait(t)
	b.nothing()
	b.stop()
}

// daemonized is the PID that a QEMU wrote down.
func (b *bed) daemonized(file string) int {
	b.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	return pid
}

func TestDaemonizedQEMUIsFollowed(t *testing.T) {
	t.Parallel()
	mac := "52:54:00:00:4e:02"
	for _, way := range []string{"exec", "tap-helper"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, basicConfig)
			b.start()
			end := []string{"-S", "-daemonize", "-pidfile", b.path("pid")}
			p := b.spawnWay(way, mac, end...)
			if code := p.wait(t); code != 0 {
				t.Fatalf("exit %d: %s", code, &p.out)
			}
			pid := b.daemonized(b.path("pid"))
			att := b.attachedVM("vm1")
			if n := tapQueues(pid); n != 1 || att.Link != "up" {
				t.Errorf("process %d holds %d queues, %+v", pid, n, att)
			}
			b.kill()
			b.start()
			if again := b.attachedVM("vm1"); again.Ifindex != att.Ifindex {
				t.Errorf("after a restart of the daemon: %+v", again)
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			b.nothing()
			b.stop()
		})
	}
}

// spawnWay starts a QEMU that gets its NIC by exec or by the helper.
func (b *bed) spawnWay(way, mac string, more ...string) *process {
	b.t.Helper()
	if way == "exec" {
		args := append([]string{"exec", "vm1", "--mac", mac, "--"}, b.qemuLine("vm1", append(more, "{netdev}")...)...)
		return b.spawn(binary, args...)
	}
	line := b.helperLine("vm1", "tap-helper vm1 --mac "+mac, mac, more...)
	return b.spawn(line[0], line[1:]...)
}

func (b *bed) helperLine(vm, helper, mac string, more ...string) []string {
	return b.qemuLine(vm, append([]string{
		"-netdev", "tap,id=n0,helper=" + binary + " " + helper, "-device", "virtio-net-pci,netdev=n0,mac=" + mac,
	}, more...)...)
}

func TestTapHelperGivesQEMUItsQueue(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	s := b.sniff("o0")
	mac := "52:54:00:00:4e:03"
	p := b.spawnWay("tap-helper", mac, "-boot", "n")
	att := b.attachedVM("vm1")
	if att.Via != "fd" || att.Queues != 1 || att.MAC != mac {
		t.Errorf("%+v", att)
	}
	b.eventually("the helper has handed the queue on", 10*time.Second, func() error {
		if n := tapQueues(p.pid()); n != 1 {
			return fmt.Errorf("QEMU holds %d queues: %s", n, &p.out)
		}
		return nil
	})
	if !s.heard(parseMAC(t, mac), 2*time.Minute) {
		t.Errorf("no frame of the guest's: %s", &p.out)
	}
	p.signal(unix.SIGKILL)
	p.wait(t)
	b.nothing()
	b.stop()
}

func TestTapHelperThatCannotHelpLeavesNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{2, "for QEMU to run", []string{"vm1"}},
		{2, "99", []string{"vm1", "--use-vnet", "--fd=99", "--br=br0"}},
		{2, "--fd 1 ", []string{"vm1", "--use-vnet", "--fd=1", "--br=br0"}},
	} {
		if r := b.must(c.code, append([]string{"tap-helper"}, c.args...)...); !strings.Contains(r.err, c.says) {
			t.Errorf("tap-helper %v says %q, want something with %q", c.args, r.err, c.says)
		}
	}
	line := b.helperLine("evil1", "tap-helper evil1", "52:54:00:00:4e:04", "-S")
	p := b.spawn(line[0], line[1:]...)
	if code := p.wait(t); code != 1 || !strings.Contains(p.out.String(), "INC-4711") {
		t.Errorf("a VM that is denied: exit %d, %s", code, &p.out)
	}
	b.nothing()
	b.stop()
}

// QEMU that was given its NIC at the start holds it until it ends: on q35 the
// root bus lets nothing be unplugged. The traffic ends at once all the same.
func TestDetachOfAnExecNICEndsItsTraffic(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	p := b.execVM("vm1", nil)
	att := b.attachedVM("vm1")
	r := b.must(0, "detach", "vm1")
	list := b.list("vm1")
	if len(list) != 1 || list[0].Phase != vmnetd.Detaching || list[0].Problem == "" {
		t.Fatalf("after detach: %+v\n%s%s", list, r.out, r.err)
	}
	if link := b.host.Link(t, att.Ifname); link.Up {
		t.Errorf("the device is still up")
	}
	p.signal(unix.SIGKILL)
	p.wait(t)
	b.nothing()
	b.stop()
}

// A QEMU whose socket is not known cannot be asked to let go.
func TestDetachLeavesTheDeviceToWhoHoldsItsQueues(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	p := b.spawn(binary, "exec", "vm1", "--queues", "2", "--", "sh", "-c", "exec sleep 600", "{netdev}")
	att := b.attachedVM("vm1")
	b.must(0, "detach", "vm1")
	list := b.list("vm1")
	if len(list) != 1 || list[0].Phase != vmnetd.Detaching || !strings.Contains(list[0].Problem, fmt.Sprint(p.pid())) {
		t.Errorf("after detach: %+v", list)
	}
	if link := b.host.Link(t, att.Ifname); link.Up {
		t.Error("the device is still up")
	}
	p.signal(unix.SIGKILL)
	p.wait(t)
	b.nothing()
	b.stop()
}

// The queues of a device that has gone are taken from QEMU: it would abort on
// them when its guest resets the NIC.
func TestExecWhoseDeviceHasGoneIsCutOff(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	p := b.execVM("vm1", []string{"--queues", "2"})
	att := b.attachedVM("vm1")
	b.qmp(b.path("qmp/vm1.sock"), "query-status", nil)
	b.host.Delete(t, att.Ifname)
	b.eventually("the NIC is cut off", 5*time.Second, func() error {
		list := b.list("vm1")
		if n := tapQueues(p.pid()); n != 0 || len(list) != 1 || list[0].Phase != vmnetd.Broken || !strings.Contains(list[0].Problem, "device has gone") {
			return fmt.Errorf("QEMU holds %d queues, %+v", n, list)
		}
		return nil
	})
	b.must(0, "detach", "vm1")
	p.signal(unix.SIGKILL)
	p.wait(t)
	b.nothing()
	b.stop()
}
