package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// TestBootedGuestOfLibvirt does to one guest what needs no boot of its own. It
// begins and ends each without a NIC.
func TestBootedGuestOfLibvirt(t *testing.T) {
	t.Parallel()
	b := newLibvirtBed(t, libvirtGuestConfig)
	b.wire(2)
	b.start()
	disk := filepath.Join(b.Dir, "disk.qcow2") // libvirt keeps a snapshot's memory in there
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M").CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	g := b.boot(testkit.LibvirtGuestOptions{
		Name: "vm1", VCPUs: 4, Persistent: true, RootPorts: 4,
		Disks: []string{fmt.Sprintf("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='sda' bus='sata'/></disk>", disk)},
	})
	for _, sub := range []struct {
		name string
		run  func(*inmate)
	}{
		{"DeviceOfOneQueueDeleted", func(g *inmate) { deviceDeleted(g, 1) }},
		{"SnapshotIsRevertedTo", snapshotReverted},
		{"AnotherMACWhereItIsDenied", otherMACDenied},
		{"ByNameTaintsNothing", func(g *inmate) {
			if taints := g.b.taints(g.Name); taints != asRoot {
				g.b.t.Errorf("tainted: %s", taints)
			}
		}},
		// from here on the domain is tainted
		{"AnotherMACAndGroupsWhereTheyAreAllowed", otherMACAllowed},
		{"DeviceOfFourQueuesDeleted", func(g *inmate) { deviceDeleted(g, 4) }},
		{"HandedOverByFD", func(g *inmate) { byFD(g, 1); byFD(g, 4) }},
	} {
		began := time.Now()
		ok := t.Run(sub.name, func(t *testing.T) {
			outer := b.t
			b.t = t
			defer func() { b.t = outer }()
			sub.run(g)
			b.nothing()
		})
		t.Logf("%s: %s", sub.name, time.Since(began).Round(100*time.Millisecond))
		if !ok {
			break // the guest is in a state that the next does not expect
		}
	}
}

// give attaches a NIC to the guest that runs, and sets it up in network 1.
func (g *inmate) give(flags ...string) (att vmnetd.Attachment, nic string) {
	g.b.t.Helper()
	att = g.b.attach(append([]string{g.Name, "--live"}, flags...)...)
	nic = g.up(att.MAC, 1)
	if !g.reaches(1, true) {
		g.b.t.Fatalf("the outside is not reached by %+v\ndaemon: %s", att, g.b.daemon.log)
	}
	return att, nic
}

// take takes it away again.
func (g *inmate) take(att vmnetd.Attachment) {
	g.b.t.Helper()
	g.b.must(0, "detach", g.Name, "--id", att.ID)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := g.WaitNoIface(ctx, parseMAC(g.b.t, att.MAC)); err != nil {
		g.b.t.Fatalf("the guest still has its NIC: %v", err)
	}
}

func (g *inmate) usesQueues(nic string, n int) {
	g.b.t.Helper()
	if got := g.sh("ls -d /sys/class/net/%s/queues/rx-* | wc -l", nic); got != fmt.Sprint(n) {
		g.b.t.Errorf("the guest uses %s queues, want %d", got, n)
	}
}

// deviceDeleted: the NIC is broken, said so, and plugged again where it was.
func deviceDeleted(g *inmate, queues int) {
	b := g.b
	att, nic := g.give("--queues", fmt.Sprint(queues))
	g.usesQueues(nic, queues)
	qemu, place := b.qemuPID(g.Name), b.ours(g.Name)[0].Addr
	began := time.Now()
	b.inside(b.host, "ip", "link", "delete", att.Ifname)
	if told := b.told(began, "broken", g.Name, att.ID); !strings.Contains(told.Text, att.Ifname+" was deleted") {
		b.t.Errorf("told %+v", told)
	}
	var now vmnetd.Attachment
	b.eventually("it is plugged again", 30*time.Second, func() error {
		list := b.list(g.Name)
		if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Link != "up" || list[0].Ifindex == att.Ifindex || list[0].Ifindex == 0 {
			return fmt.Errorf("%+v", list)
		}
		now = list[0]
		return nil
	})
	if now.MAC != att.MAC || now.Ifname != att.Ifname || now.Queues != att.Queues || now.Problem != att.Problem {
		b.t.Errorf("it is %+v, it was %+v", now, att)
	}
	if again := b.ours(g.Name); len(again) != 1 || again[0].Addr != place || again[0].Queues != queues || again[0].LinkDown {
		b.t.Errorf("in libvirt it is %+v, it was at %s", again, place)
	}
	nic = g.up(att.MAC, 1)
	g.usesQueues(nic, queues)
	if !g.reaches(1, true) {
		b.t.Errorf("the outside is not reached\ndaemon: %s", b.daemon.log)
	}
	if pid := b.qemuPID(g.Name); pid != qemu {
		b.t.Errorf("QEMU is process %d, it was %d", pid, qemu)
	}
	if tainted := strings.Contains(b.taints(g.Name), "custom"); tainted != (queues > 1) && queues == 1 {
		b.t.Errorf("tainted: %s", b.taints(g.Name))
	}
	g.take(now)
}

// snapshotReverted: to one with a NIC that is still there, that is not any more,
// and of a VM that is shut off.
func snapshotReverted(g *inmate) {
	b := g.b
	att, _ := g.give("--id", "data", "--network", "data", "--queues", "4")
	want := inLibvirt{id: "data", network: "data", problem: liveOnly}
	b.Virsh("snapshot-create-as", g.Name, "s1")
	works := func(what string) {
		b.t.Helper()
		if now := b.stands(g.Name, want)["data"]; now.MAC != att.MAC || now.Ifname != att.Ifname || now.Queues != att.Queues {
			b.t.Errorf("%s: it is %+v, it was %+v", what, now, att)
		}
		if !g.reaches(1, true) {
			b.t.Errorf("%s: the outside is not reached\ndaemon: %s", what, b.daemon.log)
		}
	}
	works("the snapshot is made")
	qemu := b.qemuPID(g.Name)
	b.Virsh("snapshot-revert", g.Name, "s1")
	works("reverted with the NIC in place")
	if b.qemuPID(g.Name) != qemu {
		b.t.Logf("libvirt started another QEMU")
	}
	g.take(att)
	b.nothing()
	b.Virsh("snapshot-revert", g.Name, "s1", "--force") // another QEMU, since this one has other devices
	works("reverted with the NIC detached")
	b.Virsh("destroy", g.Name)
	b.nothing()
	b.Virsh("snapshot-revert", g.Name, "s1")
	works("reverted from shut off")
	g.take(att)
	b.Virsh("snapshot-delete", g.Name, "s1")
}

// anotherMAC has the guest give its NIC a MAC; IPv6 addresses go when a link does.
func (g *inmate) anotherMAC(nic, mac string) {
	g.b.t.Helper()
	g.sh(`ip link set %[1]s down && ip link set %[1]s address %[2]s && ip link set %[1]s up && ip -6 addr add fd99:1::2/64 dev %[1]s`, nic, mac)
}

const guestsOwnMAC = "52:54:00:99:00:07"

// otherMACDenied: the device keeps its MAC, and the guest hears nothing at another.
func otherMACDenied(g *inmate) {
	b := g.b
	att, nic := g.give("--network", "lan")
	g.anotherMAC(nic, guestsOwnMAC)
	if g.reaches(1, false) {
		b.t.Errorf("the outside is reached from a MAC that is not allowed")
	}
	if mac := b.host.Link(b.t, att.Ifname).MAC.String(); mac != att.MAC {
		b.t.Errorf("the device has the MAC %s, not %s", mac, att.MAC)
	}
	if list := b.list(g.Name); len(list) != 1 || list[0].MAC != att.MAC || list[0].Phase != vmnetd.Attached || list[0].Problem != att.Problem {
		b.t.Errorf("list says %+v", list)
	}
	g.anotherMAC(nic, att.MAC)
	if !g.reaches(1, true) {
		b.t.Errorf("with its own MAC again the outside is not reached")
	}
	g.take(att)
}

// otherMACAllowed: the device follows the guest's MAC and its groups.
func otherMACAllowed(g *inmate) {
	b := g.b
	att, nic := g.give("--network", "free")
	pinged := func(addresses ...string) {
		b.t.Helper()
		for _, a := range addresses {
			b.inside(b.outside, "ip", "neigh", "flush", "dev", "sw0")
			b.inside(b.outside, "ping", "-q", "-c", "1", "-W", "20", a)
		}
	}
	followed := func(mac string) {
		b.t.Helper()
		b.eventually("the device follows", 10*time.Second, func() error {
			if now := b.host.Link(b.t, att.Ifname).MAC.String(); now != mac {
				return fmt.Errorf("its MAC is %s, want %s", now, mac)
			}
			return nil
		})
	}
	pinged("10.99.1.2", "fd99:1::2")
	for _, mac := range []string{guestsOwnMAC, att.MAC} {
		g.anotherMAC(nic, mac)
		followed(mac)
		pinged("10.99.1.2", "fd99:1::2") // the second by a frame to a group that the guest has joined
		if !g.reaches(1, true) {
			b.t.Errorf("from %s the outside is not reached\ndaemon: %s", mac, b.daemon.log)
		}
		if list := b.list(g.Name); len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].MAC != att.MAC || list[0].Problem != att.Problem {
			b.t.Errorf("list says %+v", list)
		}
		if shown := b.must(0, "show", g.Name+"/"+att.ID).out; strings.Contains(shown, guestsOwnMAC) != (mac == guestsOwnMAC) {
			b.t.Errorf("the guest has %s, and show says %s", mac, shown)
		}
	}
	if b.host.Link(b.t, att.Ifname).AllMulti {
		b.t.Errorf("the device receives every group")
	}
	if events := b.events(g.Name, att.ID); !slices.ContainsFunc(events, func(e vmnetd.Event) bool {
		return e.Event == "mac-changed" && strings.Contains(e.Text, guestsOwnMAC)
	}) {
		b.t.Errorf("told %+v", events)
	}
	g.sh("ip -6 addr add fd99:1::7:7/64 dev %s", nic) // of a group that it has not joined yet
	b.eventually("the device is in the group", 10*time.Second, func() error {
		_, err := b.outside.Command(context.Background(), "ping", "-q", "-c", "1", "-W", "1", "fd99:1::7:7").CombinedOutput()
		return err
	})
	b.kill()
	g.anotherMAC(nic, guestsOwnMAC)
	b.start() // what changed while nobody listened is followed too
	followed(guestsOwnMAC)
	pinged("10.99.1.2", "fd99:1::2")
	g.anotherMAC(nic, att.MAC)
	followed(att.MAC)
	b.Kill()
	g.anotherMAC(nic, guestsOwnMAC)
	b.Start()
	followed(guestsOwnMAC)
	pinged("10.99.1.2")
	g.take(att)
}

// byFD: the NIC that libvirt does not know of works, and its price is said.
func byFD(g *inmate, queues int) {
	b := g.b
	id := fmt.Sprintf("fd%d", queues)
	flags := []string{g.Name, "--id", id, "--handover", "fd", "--queues", fmt.Sprint(queues)}
	for _, ask := range [][]string{append([]string{"explain"}, flags...), append([]string{"attach", "--dry-run"}, flags...)} {
		if r := b.must(0, ask...); !strings.Contains(r.out+r.err, "custom-monitor") || !strings.Contains(r.out+r.err, "cannot be restored") {
			b.t.Errorf("%v says nothing of the price: %+v", ask, r)
		}
	}
	b.nothingAttached()
	att, nic := g.give(flags[1:]...)
	g.usesQueues(nic, queues)
	if att.Via != "libvirt" || att.Phase != vmnetd.Attached || att.Link != "up" || att.Queues != queues || !strings.Contains(strings.Join(att.Reasons, "\n"), "custom-monitor") {
		b.t.Errorf("%+v", att)
	}
	if ours := b.ours(g.Name); len(ours) != 0 {
		b.t.Errorf("libvirt has %+v", ours)
	}
	if taints := b.taints(g.Name); !strings.Contains(taints, "custom-monitor") && !strings.Contains(taints, "custom monitor") {
		b.t.Errorf("tainted: %s", taints)
	}
	for what, do := range map[string]func(){
		"libvirtd killed":    func() { b.Kill(); b.Start() },
		"vmnetd killed":      func() { b.kill(); b.start() },
		"suspend and resume": func() { b.Virsh("suspend", g.Name); b.Virsh("resume", g.Name) },
	} {
		do()
		b.eventually(what+": it stands", 10*time.Second, func() error {
			list, devices := b.list(g.Name), b.devices()
			if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Link != "up" || list[0].Ifindex != att.Ifindex || list[0].Problem != "" || len(devices) != 1 {
				return fmt.Errorf("%+v, devices %v", list, devices)
			}
			return nil
		})
		if !g.reaches(1, true) {
			b.t.Errorf("%s: the outside is not reached\ndaemon: %s", what, b.daemon.log)
		}
	}
	g.take(att)
}
