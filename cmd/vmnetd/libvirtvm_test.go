package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// onTeamAndBond is a team and a bond that somebody else has made.
const onTeamAndBond = `
uplinks:
  - {name: team, external: {match: {name: TEAM}}}
  - {name: bond, external: {match: {name: bnd}}}
networks:
  - {name: lan, uplinks: [team], modes: [bridge]}
  - {name: dmz, uplinks: [bond], modes: [private]}
rules:
  - {vm: "*", networks: [lan, dmz]}
hypervisors: {libvirt: {uri: "URI"}}
`

// libvirtRig is a rig with a libvirtd that has the hook, and a guest of it that
// was saved elsewhere and runs.
type libvirtRig struct {
	*rig
	*testkit.Libvirtd
	vm    *testkit.LibvirtGuest
	began time.Time
}

// slowGuest is how long one command, or one change of its NICs, may take a guest
// whose QEMU is emulated itself.
const slowGuest = 2 * time.Minute

// newLibvirtRig starts it all; prepare makes the host's uplinks.
func newLibvirtRig(t *testing.T, config string, prepare func(*libvirtRig)) *libvirtRig {
	t.Helper()
	testkit.Require(t, "vm")
	b := &libvirtRig{began: time.Now()}
	b.rig = stoppedRig(t, fmt.Sprintf("lv%d", unix.Getpid()%10000))
	b.Libvirtd = testkit.StartLibvirtd(t, testkit.LibvirtdOptions{
		Netns: b.net.Host.Do, Hook: string(hookScript(vmnetdProgram(t), b.bus.Address)),
	})
	b.lap("libvirtd runs")
	prepare(b)
	b.configure(strings.ReplaceAll(config, "URI", b.URI))
	b.start()
	b.lap("the daemon runs")
	b.vm = testkit.StartRestoredLibvirtGuest(t, b.Libvirtd, testkit.LibvirtGuestOptions{})
	b.lap("the guest is restored")
	return b
}

// lap says how far the test is.
func (b *libvirtRig) lap(what string) {
	b.t.Logf("%5.1f s: %s", time.Since(b.began).Seconds(), what)
}

// makeTeamAndBond gives the host two more ports, one on each switch, for the bond.
func (b *libvirtRig) makeTeamAndBond() {
	t, host := b.t, b.net.Host
	t.Helper()
	for _, port := range []string{testkit.PortA, testkit.PortB} {
		host.SetDown(t, port)
	}
	b.net.Team(t, b.team, `"runner": {"name": "activebackup"}, "link_watch": {"name": "ethtool"}`)
	host.Run(t, "ip", "link", "add", "bnd", "type", "bond", "mode", "active-backup", "miimon", "50")
	for port, bridge := range map[string]string{"pc": "swa", "pd": "swb"} {
		testkit.NewVeth(t, host, port, b.net.Net, testkit.SwitchSide(port))
		b.net.Net.Set(t, testkit.SwitchSide(port), rtnl.Master(b.net.Net.Link(t, bridge).Index))
		host.SetDown(t, port)
		host.Run(t, "ip", "link", "set", port, "master", "bnd")
	}
	host.SetUp(t, "bnd")
	host.WaitRunning(t, "bnd")
	b.net.Peer.Run(t, "ip", "address", "add", "198.51.100.1/24", "dev", "peer0")
}

func (b *libvirtRig) attach(args ...string) vmnetd.Attachment {
	b.t.Helper()
	var att vmnetd.Attachment
	out := b.must(append([]string{"attach", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &att); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return att
}

func (b *libvirtRig) list() []vmnetd.Attachment {
	b.t.Helper()
	var list []vmnetd.Attachment
	out := b.must("list", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return list
}

// inGuest runs a script in the guest.
func (b *libvirtRig) inGuest(script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), slowGuest)
	defer cancel()
	if out, err := b.vm.Run(ctx, script); err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// Addresses of the guest, on its NIC on the team and on that on the bond.
var guestAddresses = []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.2")}

// pings has the guest configure its NICs, and the peer ping each.
func (b *libvirtRig) pings(nics ...vmnetd.Attachment) *testkit.Pings {
	b.t.Helper()
	var script strings.Builder
	for i, nic := range nics {
		fmt.Fprintf(&script, "until f=$(grep -lix %s /sys/class/net/*/address); do sleep 0.1; done\n", nic.MAC)
		fmt.Fprintf(&script, "n=$(basename ${f%%/address}); ip address add %s/24 dev $n; ip link set $n up\n", guestAddresses[i])
	}
	b.inGuest(script.String())
	pings := testkit.StartPings(b.t, b.net.Peer, 200*time.Millisecond, guestAddresses[:len(nics)]...)
	if !pings.Answered(3, slowGuest) {
		b.t.Fatalf("the guest does not answer: %+v", pings.Counts())
	}
	return pings
}

// detached takes all NICs from a VM and holds that nothing is left of them.
func (b *libvirtRig) detached(vm string, nics ...vmnetd.Attachment) {
	b.t.Helper()
	b.must("detach", vm, "--all")
	if vm == b.vm.Name {
		for _, nic := range nics {
			mac, _ := net.ParseMAC(nic.MAC)
			ctx, cancel := context.WithTimeout(b.t.Context(), slowGuest)
			err := b.vm.WaitNoIface(ctx, mac)
			cancel()
			if err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.nothingLeft()
}

func (b *libvirtRig) nothingLeft() {
	b.t.Helper()
	b.eventually("nothing is left", func() bool { return b.macvtaps() == "" && len(b.list()) == 0 },
		func() { b.t.Logf("%+v, devices %s", b.list(), b.macvtaps()) })
}

// vhost is what the QEMU of a domain has of vhost-net: how many descriptors, and
// how often each of the kernel's threads for them had something to do.
func vhost(t *testing.T, domain string) (fds int, woken []int) {
	t.Helper()
	pid := qemuOf(t, domain)
	links, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, link.Name())); to == "/dev/vhost-net" {
			fds++
		}
	}
	// Threads of the kernel's, named after who owns the device (drivers/vhost/vhost.c).
	for _, status := range statuses(t) {
		if strings.HasPrefix(status, fmt.Sprintf("Name:\tvhost-%d\n", pid)) {
			n := 0
			_, after, _ := strings.Cut(status, "\nvoluntary_ctxt_switches:")
			_, _ = fmt.Sscan(after, &n)
			woken = append(woken, n)
		}
	}
	return fds, woken
}

// statuses is /proc/PID/status of every process (proc(5)).
func statuses(t *testing.T) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			list = append(list, string(b))
		}
	}
	return list
}

// qemuOf is the pid of a domain's QEMU.
func qemuOf(t *testing.T, domain string) int {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		b, _ := os.ReadFile(file)
		pid := 0
		if strings.Contains(string(b), "\x00guest="+domain+",") {
			_, _ = fmt.Sscanf(file, "/proc/%d/", &pid)
			return pid
		}
	}
	t.Fatalf("domain %s has no QEMU", domain)
	return 0
}

func total(list []int) (sum int) {
	for _, n := range list {
		sum += n
	}
	return sum
}

func TestVMLibvirtsGuestOnATeamAndABond(t *testing.T) {
	b := newLibvirtRig(t, onTeamAndBond, (*libvirtRig).makeTeamAndBond)
	go func() { _ = b.vm.WaitUp(t.Context()) }() // it takes its time, and the next command waits for it
	b.startsPaused()
	b.failsOver()
	b.byFD()
}

// startsPaused: a domain whose NIC the hook makes, and one by fd beside it. libvirt
// opens no vhost-net for a domain that is not of type kvm, which there is not in
// the VM.
func (b *libvirtRig) startsPaused() {
	t := b.t
	t.Helper()
	nic := b.must("xml", "vm2", "--network", "lan", "--queues", "4")
	testkit.StartLibvirtGuest(t, b.Libvirtd, testkit.LibvirtGuestOptions{
		Name: "vm2", Persistent: true, Paused: true, Interfaces: []string{nic}, QEMUArgs: testkit.EjectsPaused,
	})
	b.eventually("the hook's NIC is attached", func() bool {
		list := b.list()
		return len(list) == 1 && list[0].Phase == vmnetd.Attached
	})
	att := b.list()[0]
	if att.Queues != 4 || att.Link != "down" || att.VHost || !strings.Contains(att.VHostReason, "type qemu") {
		t.Errorf("%+v", att)
	}
	if fds, woken := vhost(t, "vm2"); fds != 0 || len(woken) != 0 {
		t.Errorf("libvirt has opened vhost-net after all: %d times, threads %v", fds, woken)
	}
	b.lap("vm2 is started")
	att = b.attach("vm2", "--network", "dmz", "--handover", "fd", "--queues", "4")
	if !att.VHost || att.VHostReason != "" || att.Queues != 4 || att.Link != "down" {
		t.Errorf("by fd: %+v", att)
	}
	if fds, woken := vhost(t, "vm2"); fds != 4 || len(woken) != 4 {
		t.Errorf("4 queues by fd: vhost-net is open %d times, threads %v", fds, woken)
	}
	b.must("detach", "vm2", "--id", att.ID)
	b.eventually("vhost-net is closed", func() bool { fds, woken := vhost(t, "vm2"); return fds == 0 && len(woken) == 0 })
	b.Virsh("destroy", "vm2")
	b.nothingLeft()
	b.lap("vm2 is gone")
}

// failsOver: NICs by name in a running guest, a failover under one of them, and
// CPUs that stand still.
func (b *libvirtRig) failsOver() {
	t := b.t
	t.Helper()
	lan := b.attach("saved", "--via", "libvirt", "--network", "lan")
	dmz := b.attach("saved", "--via", "libvirt", "--network", "dmz")
	if lan.Mode != vmnetd.Bridge || lan.Uplink != "team" || dmz.Mode != vmnetd.Private || dmz.Uplink != "bond" || lan.Link != "up" || dmz.Link != "up" {
		t.Errorf("attached as %+v and %+v", lan, dmz)
	}
	b.lap("both NICs are attached")
	pings := b.pings(lan, dmz)
	b.lap("both answer")
	active := b.net.Active(t, b.team)
	pings.Begin()
	b.net.Fail(t, active, testkit.SwitchDown)
	b.eventually("the failover is announced", func() bool {
		u := b.uplink("team")
		return u.Announced != nil && u.Announced.Guests == 1 && strings.Contains(u.Path, testkit.Other(active))
	}, func() { t.Logf("%+v", b.uplink("team")) })
	if !pings.Answered(5, slowGuest) {
		t.Fatalf("after the failover: %+v", pings.Counts())
	}
	for i, c := range pings.Counts() {
		t.Logf("%s in a failover of the team: %+v", guestAddresses[i], c)
		if c.Gap > 5*time.Second {
			t.Errorf("%s was lost for %s", guestAddresses[i], c.Gap)
		}
	}
	pings.Stop()
	b.net.Mend(t, active, testkit.SwitchDown)
	b.lap("failed over")
	b.standsStill(lan, dmz)
	b.detached("saved", lan, dmz)
	b.lap("detached")
}

// standsStill: the links follow the CPUs.
func (b *libvirtRig) standsStill(nics ...vmnetd.Attachment) {
	b.t.Helper()
	for _, step := range []struct{ virsh, link string }{{"suspend", "down"}, {"resume", "up"}} {
		b.Virsh(step.virsh, "saved")
		b.eventually("after virsh "+step.virsh+" the links are "+step.link, func() bool {
			return !slices.ContainsFunc(nics, func(nic vmnetd.Attachment) bool {
				return b.net.Host.Link(b.t, nic.Ifname).Up != (step.link == "up")
			}) && !slices.ContainsFunc(b.list(), func(att vmnetd.Attachment) bool { return att.Link != step.link })
		})
	}
	b.lap("suspended and resumed")
}

// byFD: the same NICs of the running guest with queues of vhost-net.
func (b *libvirtRig) byFD() {
	t := b.t
	t.Helper()
	lan := b.attach("saved", "--network", "lan", "--handover", "fd", "--queues", "1")
	dmz := b.attach("saved", "--network", "dmz", "--handover", "fd", "--queues", "2")
	if !lan.VHost || !dmz.VHost || lan.Queues != 1 || dmz.Queues != 2 {
		t.Errorf("attached as %+v and %+v", lan, dmz)
	}
	b.lap("both NICs are handed over")
	pings := b.pings(lan, dmz)
	fds, before := vhost(t, "saved")
	if fds != 3 || len(before) != 3 {
		t.Errorf("1 and 2 queues by fd: vhost-net is open %d times, threads %v", fds, before)
	}
	if !pings.Answered(5, slowGuest) {
		t.Errorf("by fd: %+v", pings.Counts())
	}
	_, after := vhost(t, "saved")
	if total(after) < total(before)+10 {
		t.Errorf("5 pings of each NIC did not go by vhost-net: its threads had %v and %v things to do", before, after)
	}
	pings.Stop()
	b.lap("both answer")
	b.detached("saved", lan, dmz)
	if fds, woken := vhost(t, "saved"); fds != 0 || len(woken) != 0 {
		t.Errorf("after the detach vhost-net is open %d times, threads %v", fds, woken)
	}
	b.lap("detached")
}
