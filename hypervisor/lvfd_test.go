package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// fdBed is a libvirtd and a fdWay to it.
type fdBed struct {
	*testkit.Libvirtd
	*fdWay
	t *testing.T

	mu   sync.Mutex
	lv   *libvirt.Libvirt
	conn net.Conn
}

func newFDBed(t *testing.T) *fdBed {
	t.Helper()
	testkit.Require(t, "libvirt")
	testkit.Require(t, "netns")
	b := &fdBed{t: t, Libvirtd: testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})}
	b.fdWay = &fdWay{
		flight: &fdFlight{}, limits: Limits{Command: longEnough}.withDefaults(), hit: failpoint.Set(nil).Hit,
		call: b.run, domain: b.lookUp,
	}
	t.Cleanup(b.disconnect)
	return b
}

// Dial implements socket.Dialer.
func (b *fdBed) Dial() (net.Conn, error) {
	conn, err := net.Dial("unix", b.Socket)
	if err != nil {
		return nil, err
	}
	b.conn = b.flight.wrap(conn)
	return b.conn, nil
}

// run connects anew when the connection has ended.
func (b *fdBed) run(_ context.Context, _ time.Duration, f func(*libvirt.Libvirt) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lv != nil {
		select {
		case <-b.lv.Disconnected():
			_ = b.conn.Close()
			b.lv = nil
		default:
		}
	}
	if b.lv == nil {
		lv := libvirt.NewWithDialer(b)
		if err := lv.Connect(); err != nil {
			return err
		}
		b.lv = lv
	}
	return f(b.lv)
}

func (b *fdBed) disconnect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lv != nil {
		_ = b.lv.Disconnect()
		_ = b.conn.Close() // go-libvirt leaves one that libvirtd has ended
		b.lv = nil
	}
}

func (b *fdBed) lookUp(vm VM) (dom libvirt.Domain, err error) {
	err = b.run(b.t.Context(), 0, func(lv *libvirt.Libvirt) (err error) { dom, err = lv.DomainLookupByName(vm.Name); return err })
	if libvirt.IsNotFound(err) {
		err = vmnetd.Errorf(vmnetd.ErrNotFound, "no VM %s", vm.Name)
	}
	return dom, err
}

// fdDomain is a domain with free places; paused it lets go of NICs at once.
const fdDomain = `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>%s</name><memory unit='MiB'>128</memory>
<os><type arch='x86_64' machine='q35'>hvm</type>%s</os><features><acpi/></features>
<devices><controller type='usb' model='none'/><memballoon model='none'/>
<controller type='pci' model='pcie-root'/><controller type='pci' model='pcie-root-port'/><controller type='pci' model='pcie-root-port'/>
<controller type='pci' model='pcie-root-port'/>%s</devices>
<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'/></qemu:commandline></domain>`

func (b *fdBed) create(name, boot, devices string, flags ...string) VM {
	b.t.Helper()
	file := filepath.Join(b.Dir, name+".xml")
	if err := os.WriteFile(file, fmt.Appendf(nil, fdDomain, name, boot, devices), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.Virsh(append(append([]string{"create"}, flags...), file)...)
	return VM{Name: name, Via: "libvirt", Instance: "run-of-" + name, PID: b.qemuOf(name)}
}

// qemuOf finds the QEMU of a domain.
func (b *fdBed) qemuOf(name string) int {
	b.t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		cmdline, _ := os.ReadFile(file)
		if strings.Contains(string(cmdline), "\x00guest="+name+",") && strings.HasPrefix(filepath.Base(strings.Split(string(cmdline), "\x00")[0]), "qemu-system") {
			pid := 0
			_, _ = fmt.Sscanf(file, "/proc/%d/", &pid)
			return pid
		}
	}
	b.t.Fatalf("no QEMU of %s", name)
	return 0
}

// restart is what a crash of libvirtd does to whoever is in the middle of it.
func (b *fdBed) restart() {
	b.Kill()
	b.Start()
}

func vmName(what string) string { return fmt.Sprintf("%s-%d", what, os.Getpid()) }

func openFDs(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestQueuesReachAQEMUOfLibvirt(t *testing.T) {
	b := newFDBed(t)
	for _, queues := range []int{1, 4} {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			vm := b.create(vmName(fmt.Sprintf("fd%d", queues)), "", "", "--paused")
			before := openFDs(t, vm.PID)
			place, err := b.plug(t.Context(), vm, nic(t, "net0", queues))
			if err != nil {
				t.Fatal(err)
			}
			if n := tapsOf(vm.PID); n != queues {
				t.Errorf("QEMU holds %d queues, want %d", n, queues)
			}
			if want := (Place{Addr: "0000:03:00.0"}); place != want {
				t.Errorf("place = %+v, want %+v: the last one", place, want)
			}
			b.restart()
			again, err := b.plug(t.Context(), vm, NIC{ID: "net0", MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, Open: notTaps(queues)})
			if err != nil || !again.Already || again.Addr != place.Addr {
				t.Errorf("plug after libvirtd's restart = %+v, %v", again, err)
			}
			for _, up := range []bool{false, true} {
				if err := b.setLink(t.Context(), vm, NIC{ID: "net0"}, up); err != nil {
					t.Error(err)
				}
			}
			if f, err := b.filter(t.Context(), vm, NIC{ID: "net0"}, "vmn-net0"); err != nil || f.MAC.String() != "52:54:00:01:02:03" {
				t.Errorf("filter = %+v, %v", f, err)
			}
			if _, err := b.filter(t.Context(), vm, NIC{ID: "net1"}, "net1"); !errors.Is(err, vmnetd.ErrNotFound) {
				t.Errorf("filter of no NIC = %v", err)
			}
			if err := b.setLink(t.Context(), vm, NIC{ID: "net1"}, true); !errors.Is(err, vmnetd.ErrNotFound) {
				t.Errorf("setLink of no NIC = %v", err)
			}
			if err := b.unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := b.plugged(t.Context(), vm, NIC{ID: "net0"}); ok || err != nil {
				t.Errorf("plugged after unplug = %v, %v", ok, err)
			}
			if after := openFDs(t, vm.PID); after != before {
				t.Errorf("QEMU has %d descriptors, %d before", after, before)
			}
			if n := tapsOf(os.Getpid()); n != 0 {
				t.Errorf("%d queues are open here", n)
			}
		})
	}
}

func TestAttemptCutOffByLibvirtdsEndIsSweptByTheNext(t *testing.T) {
	b := newFDBed(t)
	vm := b.create(vmName("half"), "", "", "--paused")
	before := openFDs(t, vm.PID)
	for _, queues := range []int{1, 4} {
		for _, point := range []failpoint.Point{failpoint.HandoverOpened, failpoint.HandoverGetfd, failpoint.HandoverNetdev, failpoint.HandoverDevice} {
			t.Run(fmt.Sprintf("%d/%s", queues, point), func(t *testing.T) {
				b.hit = func(now failpoint.Point) error {
					if now != point {
						return nil
					}
					b.Kill()
					return errProvoked
				}
				if _, err := b.plug(t.Context(), vm, nic(t, "net0", queues)); !errors.Is(err, errProvoked) {
					t.Fatalf("plug = %v", err)
				}
				b.hit = failpoint.Set(nil).Hit
				b.Start()
				place, err := b.plug(t.Context(), vm, nic(t, "net0", 2))
				if err != nil {
					t.Fatal(err)
				}
				want := 2
				if point == failpoint.HandoverDevice { // it was whole
					want = queues
				}
				if n := tapsOf(vm.PID); n != want || place.Already != (point == failpoint.HandoverDevice) {
					t.Errorf("QEMU holds %d queues, want %d; place %+v", n, want, place)
				}
				if err := b.unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
					t.Fatal(err)
				}
				if after := openFDs(t, vm.PID); after != before {
					t.Errorf("QEMU has %d descriptors, %d before", after, before)
				}
				if n := tapsOf(os.Getpid()); n != 0 {
					t.Errorf("%d queues are open here", n)
				}
			})
		}
	}
}

func TestCutOffNICOfLibvirtHoldsNoQueue(t *testing.T) {
	b := newFDBed(t)
	vm := b.create(vmName("cut"), "", "", "--paused")
	if _, err := b.plug(t.Context(), vm, nic(t, "net0", 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.cutOff(t.Context(), vm, NIC{ID: "net0"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := tapsOf(vm.PID); n != 0 {
		t.Errorf("QEMU holds %d queues", n)
	}
	b.Virsh("destroy", vm.Name)
	if err := b.unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
		t.Errorf("unplug from a VM that has gone: %v", err)
	}
	if _, err := b.plug(t.Context(), vm, nic(t, "net0", 1)); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("plug into a VM that has gone: %v", err)
	}
}

// answering is a guest's only program: it answers pings at 192.0.2.2 on whatever
// NIC it has.
const answering = `rdinit=/bin/busybox -- sh -c &quot;busybox mkdir -p /sys; busybox mount -t sysfs sysfs /sys; for m in /mods/*; do busybox insmod $m; done; ` +
	`while :; do for i in /sys/class/net/eth*; do busybox ip addr add 192.0.2.2/24 dev $(busybox basename $i); busybox ip link set $(busybox basename $i) up; done; busybox sleep 0.1; done&quot;`

func TestGuestIsReachedByItsQueuesWhateverBecomesOfLibvirtd(t *testing.T) {
	b := newFDBed(t)
	image, err := testkit.BuildGuestImage(t.Context(), b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	vm := b.create(vmName("live"), fmt.Sprintf("<kernel>%s</kernel><initrd>%s</initrd><cmdline>quiet panic=-1 %s</cmdline>", image.Kernel, image.Initrd, answering), "")
	host := testkit.NewNetns(t)
	pings := testkit.StartPings(t, host, 20*time.Millisecond, netip.MustParseAddr("192.0.2.2"))
	for _, queues := range []int{1, 4} {
		card := NIC{ID: "net0", MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, Queues: queues, Open: upTap(host, queues)}
		if _, err := b.plug(t.Context(), vm, card); err != nil {
			t.Fatal(err)
		}
		if !pings.Answered(1, time.Minute) {
			t.Fatalf("the guest answers no ping by %d queues", queues)
		}
		b.Kill()
		if !pings.Answered(5, longEnough) {
			t.Error("the guest answers no ping while libvirtd is dead")
		}
		b.Start()
		if !pings.Answered(5, longEnough) {
			t.Error("the guest answers no ping after libvirtd's restart")
		}
		for {
			err := b.unplug(t.Context(), vm, card)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrEjecting) {
				t.Fatal(err)
			}
		}
		if n := tapsOf(vm.PID); n != 0 {
			t.Errorf("QEMU holds %d queues of a NIC that has gone", n)
		}
	}
}

// upTap is a tap with 192.0.2.1 on the host's side.
func upTap(host *testkit.Netns, queues int) func(context.Context) (*queuefd.Set, error) {
	return func(context.Context) (*queuefd.Set, error) {
		set := &queuefd.Set{}
		err := host.Do(func() error {
			for range queues {
				fd, err := openTap(queues > 1)
				if err != nil {
					return err
				}
				set.Queues = append(set.Queues, fd)
			}
			for _, args := range [][]string{{"addr", "add", "192.0.2.1/24", "dev", "vmntest0"}, {"link", "set", "vmntest0", "up"}} {
				if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
					return fmt.Errorf("ip %v: %w: %s", args, err, out)
				}
			}
			return nil
		})
		if err != nil {
			_ = set.Close()
		}
		return set, err
	}
}

func TestPlaceIsWrittenAsLibvirtDoes(t *testing.T) {
	for _, c := range []struct{ qemu, libvirt Place }{
		{Place{Bus: "pci.5", Addr: "0x0"}, Place{Addr: "0000:05:00.0"}},
		{Place{Bus: "pci.0", Addr: "0x1f.2"}, Place{Addr: "0000:00:1f.2"}},
		{Place{Bus: "ua-mine", Addr: "0x0"}, Place{Bus: "ua-mine", Addr: "0x0"}},
		{Place{}, Place{}},
	} {
		if got := toLibvirt(c.qemu); got != c.libvirt {
			t.Errorf("toLibvirt(%+v) = %+v, want %+v", c.qemu, got, c.libvirt)
		}
		if bus, addr, err := fromLibvirt(c.libvirt.Bus, c.libvirt.Addr); err != nil || bus != c.qemu.Bus || addr != c.qemu.Addr {
			t.Errorf("fromLibvirt(%+v) = %s, %s, %v", c.libvirt, bus, addr, err)
		}
	}
	for _, bad := range []string{"5", "0001:05:00.0", "0000:05:20.0", "0000:05:00.8", "x"} {
		if _, _, err := fromLibvirt("", bad); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("fromLibvirt(%q) = %v", bad, err)
		}
	}
}
