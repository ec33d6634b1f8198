package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Machines, guests and neighbours that do not do what is hoped of them.

func (b *bed) plainVM(name string) *testkit.QEMU {
	b.t.Helper()
	return b.vm(name, testkit.QEMUOptions{})
}

func TestGuestThatNeverLetsGoHasNoTrafficAnyMore(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testkit.QEMU){
		"until it is reset":  func(vm *testkit.QEMU) { vm.QMP("system_reset", nil) },
		"until it is killed": func(vm *testkit.QEMU) { vm.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, basicConfig)
			vm := b.plainVM("vm1")
			b.start()
			att := b.attach("vm1", "--queues", "2")
			began := time.Now()
			r := b.must(0, "detach", "vm1")
			if took := time.Since(began); took > 30*time.Second || !strings.Contains(r.out, "detaching") {
				t.Errorf("after %s: %s", took, r.out)
			}
			list := b.list()
			if len(list) != 1 || list[0].Phase != vmnetd.Detaching || list[0].Problem == "" {
				t.Fatalf("%+v", list)
			}
			if link := b.host.Link(t, att.Ifname); link.Up {
				t.Error("the device is still up")
			}
			if r := b.must(5, "attach", "vm1", "--id", "net0"); !strings.Contains(r.err, "being detached") {
				t.Errorf("attach meanwhile: %s", r.err)
			}
			end(vm)
			b.nothingLeft(30 * time.Second) // the last look may have been a long wait ago
			b.stop()
		})
	}
}

// holdsUpNobody begins an attach that is going to fail, and holds that what others
// want is done before it does. A busy machine may need a few tries.
func (b *bed) holdsUpNobody(vm string, others func()) *process {
	b.t.Helper()
	for range 5 {
		p := b.spawn(binary, "attach", vm)
		others()
		select {
		case <-p.gone:
		default:
			return p
		}
	}
	b.t.Fatalf("others wait for the attach of %s", vm)
	return nil
}

func TestBusySocketNamesWhoHoldsIt(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	vm := b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	var conn net.Conn
	err := b.host.Do(func() (err error) { // the kernel lists the sockets of one network namespace (sock_diag(7))
		conn, err = net.Dial("unix", vm.Socket)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil { // the greeting: QEMU has taken us
		t.Fatal(err)
	}
	slow := b.holdsUpNobody("vm1", func() { b.attach("vm2") })
	code := slow.wait(t)
	if took := time.Since(slow.began); took < 9*time.Second || took > 60*time.Second {
		t.Errorf("gave up after %s", took)
	}
	me := exe(os.Getpid())
	if says := slow.out.String(); code != 5 || !strings.Contains(says, fmt.Sprint(os.Getpid())) || !strings.Contains(says, me[:min(len(me), 15)]) {
		t.Errorf("exit %d, %s; want it to name %s (%d)", code, says, me, os.Getpid())
	}
	conn.Close()
	b.attach("vm1")
	b.stop()
}

func TestSocketOfAnotherVMIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	vm := b.ejectingVM("vm1")
	b.start()
	for _, args := range [][]string{
		{"attach", "vm2", "--via", "qmp:" + vm.Socket},
		{"attach", "vm2"},
	} {
		if args[len(args)-1] == "vm2" { // the name of the socket says one thing, QEMU another
			if err := os.Symlink(vm.Socket, b.path("qmp/vm2.sock")); err != nil {
				t.Fatal(err)
			}
		}
		if r := b.run(args...); r.code == 0 || r.err == "" {
			t.Errorf("%v: exit %d, %s", args, r.code, r.err)
		}
	}
	if r := b.must(4, "attach", "vm2", "--via", "qmp:"+vm.Socket); !strings.Contains(r.err, "calls itself vm1") {
		t.Errorf("%s", r.err)
	}
	b.nothing()
	b.stop()
}

// QEMU dies while the daemon stands at a step of the handover.
func TestQEMUKilledDuringAnAttachLeavesNothing(t *testing.T) {
	t.Parallel()
	for point, reached := range map[failpoint.Point]func(b *bed, vm *testkit.QEMU) bool{
		failpoint.AttachStored:   func(b *bed, _ *testkit.QEMU) bool { return len(b.list()) == 1 },
		failpoint.ConvergeDevice: func(b *bed, _ *testkit.QEMU) bool { return b.devices() != nil },
		failpoint.HandoverOpened: func(b *bed, _ *testkit.QEMU) bool { return tapQueues(b.daemon.cmd.Process.Pid) == 2 },
		failpoint.HandoverGetfd:  func(_ *bed, vm *testkit.QEMU) bool { return tapQueues(vm.PID) == 2 },
		failpoint.HandoverNetdev: func(_ *bed, vm *testkit.QEMU) bool { return inQEMU(vm, "type=tap") },
		failpoint.HandoverDevice: func(_ *bed, vm *testkit.QEMU) bool { return inQEMU(vm, "virtio-net-pci") },
		failpoint.ConvergeUp: func(b *bed, vm *testkit.QEMU) bool {
			return tapQueues(vm.PID) == 2 && tapQueues(b.daemon.cmd.Process.Pid) == 0
		},
		failpoint.ConvergeStored: func(b *bed, vm *testkit.QEMU) bool {
			names := b.devices()
			return tapQueues(vm.PID) == 2 && len(names) == 1 && b.host.Link(b.t, names[0]).Up
		},
	} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, basicConfig)
			vm := b.ejectingVM("vm1")
			setting, letGo := b.held(point)
			b.start(setting)
			p := b.spawn(binary, "attach", "vm1", "--queues", "2")
			b.eventually("it is reached", 30*time.Second, func() error {
				if !reached(b, vm) {
					return fmt.Errorf("not yet: %s", &p.out)
				}
				return nil
			})
			vm.Kill()
			letGo()
			code := p.wait(t)
			// Once QEMU has the NIC the rest is done without it: the VM ended
			// after its attach.
			done := point == failpoint.HandoverDevice || point == failpoint.ConvergeUp || point == failpoint.ConvergeStored
			if code != 4 && (!done || code > 1) {
				t.Errorf("exit %d, %s", code, &p.out)
			}
			b.nothing()
			again := b.ejectingVM("vm1")
			if b.attach("vm1", "--queues", "2"); tapQueues(again.PID) != 2 {
				t.Errorf("the next run holds %d queues", tapQueues(again.PID))
			}
			b.stop()
		})
	}
}

// inQEMU looks for a word in what QEMU says of its network.
func inQEMU(vm *testkit.QEMU, word string) bool {
	out, err := vm.TryQMP("human-monitor-command", map[string]string{"command-line": "info network"})
	return err == nil && strings.Contains(string(out), word)
}

func TestFrozenQEMUHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	frozen := b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	frozen.Stop()
	p := b.holdsUpNobody("vm1", func() {
		b.attach("vm2")
		b.must(0, "detach", "vm2")
	})
	code := p.wait(t)
	if took := time.Since(p.began); code == 0 || took > 60*time.Second || !strings.Contains(p.out.String(), "frozen") && !strings.Contains(p.out.String(), "stopped") {
		t.Errorf("after %s: exit %d, %s", took, code, &p.out)
	}
	b.nothing()
	frozen.Cont()
	b.attach("vm1")
	b.stop()
}

func TestMACOfAnotherVMIsRefusedAndTheHolderNamed(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	b.attach("vm1", "--mac", "52:54:00:00:4e:05")
	if r := b.must(5, "attach", "vm2", "--mac", "52:54:00:00:4E:05"); !strings.Contains(r.err, "vm1/net0") {
		t.Errorf("%s", r.err)
	}
	if n := len(b.devices()); n != 1 {
		t.Errorf("%d devices", n)
	}
	// somebody else's device has it
	b.host.Create(t, rtnl.NewLink{Name: "mv0", Kind: "macvlan", Lower: b.host.Link(t, "u0").Index, MAC: parseMAC(t, "52:54:00:00:4e:06")})
	b.host.SetUp(t, "mv0")
	if r := b.must(5, "attach", "vm2", "--mac", "52:54:00:00:4e:06"); !strings.Contains(r.err, "mv0") {
		t.Errorf("%s", r.err)
	}
	b.stop()
}

// /dev/tapN is named by an ifindex, and another network namespace may have a
// macvtap with the same. Under systemd /run and /tmp are mounted nodev besides.
func TestTapNodeOfAnotherNamespaceIsNotOpened(t *testing.T) {
	t.Parallel()
	const nodev = `for d in /run /tmp; do mount --bind $d $d && mount -o remount,bind,nodev $d || exit 1; done; exec "$@"`
	for name, wrap := range map[string][]string{"plain": nil, "nodev": {"unshare", "-m", "sh", "-ec", nodev, "sh"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, basicConfig)
			b.wrap = wrap
			vm := b.ejectingVM("vm1")
			b.start()
			last := b.host.Link(t, "u0").Index
			other := testkit.NewNetns(t)
			lower := other.Create(t, rtnl.NewLink{Name: "d0", Kind: "bridge", Index: last + 1000})
			for i := range 4 {
				other.Create(t, rtnl.NewLink{Name: fmt.Sprint("c", i), Kind: "macvtap", Lower: lower.Index, Index: last + 1 + i})
			}
			att := b.attach("vm1", "--queues", "2")
			if att.Ifindex <= last || att.Ifindex > last+4 {
				t.Fatalf("no collision: ifindex %d, u0 has %d", att.Ifindex, last)
			}
			want := strings.TrimSpace(b.inside(b.host, "unshare", "-m", "sh", "-ec",
				fmt.Sprintf("mount -t sysfs none /sys; cat /sys/class/net/%s/tap%d/dev", att.Ifname, att.Ifindex)))
			for fd, target := range openFiles(vm.PID) {
				if !strings.Contains(target, "tap") {
					continue
				}
				var st unix.Stat_t
				if err := unix.Stat(fmt.Sprintf("/proc/%d/fd/%s", vm.PID, fd), &st); err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)); got != want {
					t.Errorf("QEMU has a queue of device %s, ours is %s", got, want)
				}
			}
			if n := tapQueues(vm.PID); n != 2 {
				t.Errorf("QEMU holds %d queues: %v", n, openFiles(vm.PID))
			}
			b.must(0, "detach", "vm1")
			b.nothing()
			b.stop()
		})
	}
}

func TestSecondDaemonOnOneStateIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	r := b.must(5, "serve", "--config", b.path("vmnetd.yaml"), "--state-dir", b.path("state"), "--lib-dir", b.path("lib"))
	if !strings.Contains(r.err, "another vmnetd") {
		t.Errorf("%s", r.err)
	}
	other := t.TempDir()
	r = b.must(5, "serve", "--config", b.path("vmnetd.yaml"), "--state-dir", other+"/state", "--lib-dir", other+"/lib")
	if !strings.Contains(r.err, "another vmnetd") {
		t.Errorf("with a state of its own: %s", r.err)
	}
	b.must(0, "status")
	b.stop()
}
