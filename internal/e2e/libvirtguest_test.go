package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Without being asked for, policy gives lan: a NIC on data is there only where
// somebody remembers what was asked for.
const libvirtGuestConfig = `
uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge, private]}
  - {name: data, uplinks: [u0], modes: [bridge]}
  - {name: free, uplinks: [u0], modes: [bridge], mac: {change: allow}}
rules:
  - {vm: "*", networks: [lan, data, free]}
hypervisors: {libvirt: {uri: "URI"}}
`

// inmate is a booted guest of libvirt's. Its NICs are in networks of their own,
// by number: 10.99.N.0/24 and fd99:N::/64, where it is host 2 and the outside 99.
type inmate struct {
	*testkit.LibvirtGuest
	b *libvirtBed
}

func (b *libvirtBed) boot(o testkit.LibvirtGuestOptions) *inmate {
	b.t.Helper()
	began := time.Now()
	g := &inmate{testkit.BootLibvirtGuest(b.t, b.Libvirtd, o), b}
	b.t.Logf("%s booted in %s", o.Name, time.Since(began).Round(time.Second))
	return g
}

// wire makes the outside a switch with a host that is in n networks.
func (b *libvirtBed) wire(n int) {
	b.t.Helper()
	b.outsideBridge("o0")
	for i := 1; i <= n; i++ {
		b.inside(b.outside, "ip", "address", "add", fmt.Sprintf("10.99.%d.99/24", i), "dev", "sw0")
		b.inside(b.outside, "ip", "address", "add", fmt.Sprintf("fd99:%d::99/64", i), "dev", "sw0")
	}
}

// sh runs a script in the guest that has to end well.
func (g *inmate) sh(format string, args ...any) string {
	g.b.t.Helper()
	out, err := g.within(90*time.Second, format, args...)
	if err != nil {
		g.b.t.Fatalf("%v\n%s\ndaemon: %s", err, out, g.b.daemon.log)
	}
	return strings.TrimSpace(out)
}

func (g *inmate) within(limit time.Duration, format string, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return g.Run(ctx, fmt.Sprintf(format, args...))
}

// up gives the NIC with that MAC its addresses in network n, and returns what the
// guest calls it. It answers ARP for its own address only: the guest has several
// NICs on one wire.
func (g *inmate) up(mac string, n int) string {
	g.b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	nic, err := g.WaitIface(ctx, parseMAC(g.b.t, mac))
	if err != nil {
		g.b.t.Fatalf("%v\nlist: %+v\ndaemon: %s", err, g.b.list(), g.b.daemon.log)
	}
	g.sh(`echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
		echo 0 >/proc/sys/net/ipv6/conf/%[1]s/accept_dad
		ip link set %[1]s up && ip addr add 10.99.%[2]d.2/24 dev %[1]s && ip -6 addr add fd99:%[2]d::2/64 dev %[1]s`, nic, n)
	return nic
}

// reaches says whether the outside answers in a network.
func (g *inmate) reaches(n int, want bool) bool {
	g.b.t.Helper()
	how := "-c 2 -i 0.2 -W 1"
	if want {
		how = "-c 1 -W 20"
	}
	_, err := g.within(60*time.Second, "ping -q %[1]s 10.99.%[2]d.99 && ping -q %[1]s fd99:%[2]d::99", how, n)
	var code *testkit.GuestExitError
	if err != nil && !errors.As(err, &code) {
		g.b.t.Fatalf("%v\ndaemon: %s", err, g.b.daemon.log)
	}
	return err == nil
}

// inLibvirt is a NIC of ours as list shows it, with the problem that it says it has.
type inLibvirt struct{ id, network, problem string }

const liveOnly = "live only: gone at the next start, add --config"

// stands waits until a VM has exactly these NICs, attached and up, in list, in
// the kernel and in libvirt's XML, and nothing else is left. It returns them by id.
func (b *libvirtBed) stands(vm string, want ...inLibvirt) map[string]vmnetd.Attachment {
	b.t.Helper()
	b.settled(vm, "up", len(want))
	nics := map[string]vmnetd.Attachment{}
	b.eventually(vm+" has what it should have", 10*time.Second, func() error {
		var got []inLibvirt
		for _, att := range b.list(vm) {
			nics[att.ID] = att
			got = append(got, inLibvirt{att.ID, att.Network, att.Problem})
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("list says %+v, want %+v", got, want)
		}
		return nil
	})
	if devices, ours := b.devices(), b.ours(vm); len(devices) != len(want) || len(ours) != len(want) {
		b.t.Errorf("devices %v, in libvirt %+v, want %+v", devices, ours, want)
	}
	return nics
}

// node is the number of a device's node: another device's may be under the same
// name later.
func node(t testing.TB, att vmnetd.Attachment) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/dev/tap%d", att.Ifindex), &st); err != nil {
		t.Fatalf("the node of %s: %v", att.Ifname, err)
	}
	return st.Rdev
}

// nodeGone says why a removed device's node is still there.
func nodeGone(att vmnetd.Attachment, rdev uint64) error {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/dev/tap%d", att.Ifindex), &st); err == nil && st.Rdev == rdev {
		return fmt.Errorf("/dev/tap%d of %s is still there", att.Ifindex, att.Ifname)
	}
	return nil
}

// qemuPID finds the QEMU of a VM: libvirtd sees another number, in a pid
// namespace of its own.
func (b *libvirtBed) qemuPID(vm string) int {
	b.t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), "guest="+vm+",") && strings.Contains(string(line), b.Dir) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	b.t.Fatalf("%s has no QEMU", vm)
	return 0
}

// asRoot is the taint of every VM of a libvirtd that runs QEMU as root.
const asRoot = "tainted: running with undesirable elevated privileges"

// taints is what libvirt finds wrong with a VM.
func (b *libvirtBed) taints(vm string) string {
	b.t.Helper()
	_, messages, _ := strings.Cut(b.Virsh("dominfo", vm), "Messages:")
	return strings.TrimSpace(messages)
}

// bootID tells one boot of the guest from the next.
func (g *inmate) bootID() string { g.b.t.Helper(); return g.sh("cat /proc/sys/kernel/random/boot_id") }

// rebooted waits until the guest has booted since then: twice, where a CPU stood
// still at first (testkit.LibvirtGuestOptions).
func (g *inmate) rebooted(was string) {
	g.b.t.Helper()
	g.b.eventually("the guest boots again", 2*time.Minute, func() error {
		// what is told to a kernel that goes down is lost
		now, err := g.within(2*time.Second, "cat /proc/sys/kernel/random/boot_id")
		if now = strings.TrimSpace(now); err == nil && now == was {
			return errors.New("it has not yet")
		}
		return err
	})
}

func TestGuestOfLibvirtKeepsItsNICsWhateverIsRestarted(t *testing.T) {
	t.Parallel()
	b := newLibvirtBed(t, libvirtGuestConfig)
	b.wire(2)
	b.start()
	g := b.boot(testkit.LibvirtGuestOptions{Name: "vm1", VCPUs: 2, Persistent: true, Interfaces: []string{b.must(0, "xml", "vm1", "--network", "lan").out}})
	kept, passing := inLibvirt{id: "net0", network: "lan"}, inLibvirt{id: "data", network: "data", problem: liveOnly}
	g.up(b.stands("vm1", kept)["net0"].MAC, 1)
	plug := func() vmnetd.Attachment {
		att := b.attach("vm1", "--id", "data", "--network", "data", "--queues", "4", "--live")
		g.up(att.MAC, 2)
		return att
	}
	first := plug()
	// what each leaves of the guest's memory and devices
	const (
		all     = iota
		devices // the guest booted
		defined // another run of QEMU
	)
	file := filepath.Join(b.Dir, "vm1.save")
	for _, c := range []struct {
		what   string
		do     func()
		leaves int
	}{
		{"nothing has happened", func() {}, all},
		{"libvirtd killed", func() { b.Kill(); b.Start() }, all},
		{"vmnetd killed", func() { b.kill(); b.start() }, all},
		{"vmnetd killed, and its state is lost", func() {
			b.kill()
			if err := os.Remove(b.path("state/state.json")); err != nil {
				t.Fatal(err)
			}
			b.start()
		}, all},
		{"both killed", func() { b.kill(); b.Kill(); b.start(); b.Start() }, all},
		{"suspend and resume", func() { b.Virsh("suspend", "vm1"); b.settled("vm1", "down", 2); b.Virsh("resume", "vm1") }, all},
		{"save and restore", func() { b.Virsh("save", "vm1", file); b.nothing(); b.Virsh("restore", file) }, all},
		{"managedsave and start", func() { b.Virsh("managedsave", "vm1"); b.nothing(); b.Virsh("start", "vm1") }, all},
		{"reboot from inside", func() { id := g.bootID(); g.sh("(sleep 0.2; reboot -f) >/dev/null 2>&1 &"); g.rebooted(id) }, devices},
		{"reset", func() { id := g.bootID(); b.Virsh("reset", "vm1"); g.rebooted(id) }, devices},
		{"QEMU crashed", func() {
			if err := unix.Kill(b.qemuPID("vm1"), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			b.nothing()
			b.Virsh("start", "vm1")
		}, defined},
	} {
		began := time.Now()
		before := b.stands("vm1", passing, kept)
		nodes := map[string]uint64{}
		for id, att := range before {
			nodes[id] = node(t, att)
		}
		c.do()
		if c.leaves == defined {
			g.up(b.stands("vm1", kept)["net0"].MAC, 1)
			plug()
		}
		now := b.stands("vm1", passing, kept)
		if c.leaves == devices {
			g.up(now["net0"].MAC, 1)
			g.up(now["data"].MAC, 2)
		}
		for id, att := range now {
			if was := before[id]; att.Via != "libvirt" || att.MAC != was.MAC || att.Ifname != was.Ifname || att.Queues != was.Queues || att.Mode != was.Mode {
				t.Errorf("%s: %+v was %+v", c.what, att, was)
			}
			if was := before[id]; att.Ifindex != was.Ifindex {
				b.eventually("its node has gone", 5*time.Second, func() error { return nodeGone(was, nodes[id]) })
			}
		}
		if !g.reaches(1, true) || !g.reaches(2, true) {
			t.Errorf("%s: the outside is not reached\nlist %+v\ndaemon: %s", c.what, b.list(), b.daemon.log)
		}
		t.Logf("%s: %s", c.what, time.Since(began).Round(100*time.Millisecond))
	}
	if now := b.list("vm1"); now[0].MAC != first.MAC {
		t.Errorf("the same NIC has the MAC %s, it had %s", now[0].MAC, first.MAC)
	}
	if taints := b.taints("vm1"); taints != asRoot {
		t.Errorf("tainted: %s", taints)
	}
	b.Virsh("destroy", "vm1")
	b.nothing()
}
