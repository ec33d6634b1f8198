package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/tapdev"
)

const libvirtBridgeConfig = `
uplinks:
  - {name: br0, external: {}}
networks:
  - {name: lan, uplinks: [br0], modes: [switched, bridge]}
  - {name: free, uplinks: [br0], modes: [switched], mac: {change: allow}}
rules:
  - {vm: "*", networks: [lan, free]}
hypervisors: {libvirt: {uri: "URI"}}
`

// newBridgeBed is a bed whose uplink is a bridge br0 with u0 as its port.
func newBridgeBed(t *testing.T) *libvirtBed {
	t.Helper()
	testkit.Require(t, "libvirt")
	b := newBed(t, libvirtBridgeConfig)
	b.host.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	b.host.Set(t, "u0", rtnl.Master(b.host.Link(t, "br0").Index))
	b.host.SetUp(t, "br0")
	return withLibvirt(b, libvirtBridgeConfig)
}

// isPort holds that the device of a NIC is a tap on br0 as it was made: libvirt has
// changed nothing of it.
func (b *libvirtBed) isPort(att vmnetd.Attachment, up bool) {
	b.t.Helper()
	link := b.host.Link(b.t, att.Ifname)
	want := tapdev.HostMAC(vmnetd.Tap, parseMAC(b.t, att.MAC))
	if link.Kind != "tun" || link.Master != b.host.Link(b.t, "br0").Index || !bytes.Equal(link.MAC, want) || link.Up != up || link.Index != att.Ifindex {
		b.t.Errorf("the device of %+v is %+v; want MAC %s, up %v", att, link, want, up)
	}
	tun, ok := link.Tun()
	if queues := max(tun.Queues, 1); !ok || !tun.Persist || queues != att.Queues {
		b.t.Errorf("the device of %s is %+v", att.FullName(), tun)
	}
}

func TestSwitchedByLibvirt(t *testing.T) {
	t.Parallel()
	b := newBridgeBed(t)
	b.start()
	b.define("vm1")
	b.Virsh("start", "vm1")
	for _, queues := range []int{1, 4} {
		args := []string{"vm1", "--network", "lan", "--queues", fmt.Sprint(queues), "--live", "--config"}
		att := b.attach(args...)
		if att.Kind != vmnetd.Tap || att.Mode != vmnetd.Switched || att.Phase != vmnetd.Attached || att.Link != "up" || att.Problem != "" {
			t.Fatalf("%d queues: %+v", queues, att)
		}
		b.settled("vm1", "up", 1)
		b.isPort(att, true)
		if again := b.attach(args...); again.Changed {
			t.Errorf("the same again: %+v", again)
		}
		b.Virsh("suspend", "vm1")
		b.settled("vm1", "down", 1)
		b.Virsh("resume", "vm1")
		b.settled("vm1", "up", 1)
		b.isPort(att, true)
		b.Virsh("domif-setlink", "vm1", att.Ifname, "down")
		b.Virsh("domif-setlink", "vm1", att.Ifname, "up")
		b.isPort(att, true)
		b.must(0, "detach", "vm1", "--live", "--config")
		b.nothing()
	}
	if tainted := b.Virsh("dominfo", "vm1"); strings.Contains(tainted, "custom-monitor") {
		t.Errorf("tainted: %s", tainted)
	}
}

// TestPortOfADomainIsMadeAtItsStart: by the hook, which knows the addresses too.
func TestPortOfADomainIsMadeAtItsStart(t *testing.T) {
	t.Parallel()
	b := newBridgeBed(t)
	b.start()
	b.define("vm1")
	b.attach("vm1", "--network", "lan", "--queues", "2", "--ip", "10.99.1.2", "--ip", "fd99:1::2", "--config")
	file := filepath.Join(b.Dir, "vm1.save")
	was := vmnetd.Attachment{}
	for _, c := range []struct {
		what, link string
		do         func()
	}{
		{"start", "up", func() { b.Virsh("start", "vm1") }},
		{"start --paused", "down", func() { b.Virsh("start", "--paused", "vm1") }},
		{"restore", "up", func() {
			b.Virsh("start", "vm1")
			b.settled("vm1", "up", 1)
			b.Virsh("save", "vm1", file)
			b.nothing()
			b.Virsh("restore", file)
		}},
	} {
		c.do()
		b.settled("vm1", c.link, 1)
		att := b.list("vm1")[0]
		b.isPort(att, c.link == "up")
		if fmt.Sprint(att.IPs) != "[10.99.1.2 fd99:1::2]" || att.Problem != "" || was.MAC != "" && att.MAC != was.MAC {
			t.Errorf("%s: %+v was %+v", c.what, att, was)
		}
		if rules := b.inside(b.host, "nft", "list", "ruleset"); !strings.Contains(rules, "10.99.1.2") || !strings.Contains(rules, att.MAC) {
			t.Errorf("%s: the filter is\n%s", c.what, rules)
		}
		was = att
		b.Virsh("destroy", "vm1")
		b.nothing()
		if rules := b.inside(b.host, "nft", "list", "ruleset"); strings.Contains(rules, "10.99.1.2") {
			t.Errorf("%s: the filter is still there\n%s", c.what, rules)
		}
	}
}

// TestPortOfADomainOutlivesRestarts, and goes when virsh takes the NIC.
func TestPortOfADomainOutlivesRestarts(t *testing.T) {
	t.Parallel()
	b := newBridgeBed(t)
	b.start()
	b.define("vm1")
	b.Virsh("start", "vm1")
	att := b.attach("vm1", "--network", "free", "--queues", "4", "--ip", "10.99.1.2", "--live")
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"libvirtd killed", func() { b.Kill(); b.Start() }},
		{"vmnetd killed", func() { b.kill(); b.start() }},
		{"both killed", func() { b.kill(); b.Kill(); b.start(); b.Start() }},
		{"vmnetd killed, and its state is lost", func() {
			b.kill()
			if err := os.Remove(b.path("state/state.json")); err != nil {
				t.Fatal(err)
			}
			b.start()
		}},
	} {
		c.do()
		b.settled("vm1", "up", 1)
		now := b.list("vm1")[0]
		if now.Ifindex != att.Ifindex || now.MAC != att.MAC || now.Network != att.Network || now.Mode != att.Mode || now.Queues != att.Queues || fmt.Sprint(now.IPs) != fmt.Sprint(att.IPs) {
			t.Errorf("%s: %+v was %+v", c.what, now, att)
		}
		b.isPort(now, true)
	}
	b.Virsh("detach-interface", "vm1", "ethernet", "--mac", att.MAC, "--live")
	b.nothing()
}

// TestInterfaceOnABridgeBecomesAPortOfIt: by import, and comes back by --revert.
func TestInterfaceOnABridgeBecomesAPortOfIt(t *testing.T) {
	t.Parallel()
	b := newBridgeBed(t)
	b.start()
	on := func(bridge, mac string) string {
		return fmt.Sprintf("<interface type='bridge'><mac address='%s'/><source bridge='%s'/><model type='virtio'/><driver queues='2'/></interface>", mac, bridge)
	}
	b.define("vm1", on("br0", "52:54:00:00:01:01"), on("br9", "52:54:00:00:01:02"))
	before := b.Virsh("dumpxml", "vm1", "--inactive")
	shown := parse[vmnetd.Import](t, b.must(0, "import", "vm1", "--json").out)
	if len(shown.Changes) != 2 || shown.Applied || shown.Changes[0].From != "bridge on br0" || shown.Changes[0].To != "tap switched" || shown.Changes[0].Network != "lan" || shown.Changes[0].Problem != "" {
		t.Fatalf("%+v", shown)
	}
	if shown.Changes[1].To != "macvtap bridge" || shown.Changes[1].Problem != "" { // br9 is no uplink, and lan has this mode too
		t.Errorf("%+v", shown.Changes[1])
	}
	b.must(0, "import", "vm1", "--apply")
	b.Virsh("start", "vm1")
	b.settled("vm1", "up", 2)
	for _, att := range b.list("vm1") {
		if att.MAC == "52:54:00:00:01:01" {
			b.isPort(att, true)
		}
	}
	b.Virsh("destroy", "vm1")
	b.nothing()
	b.must(0, "import", "vm1", "--revert")
	if after := b.Virsh("dumpxml", "vm1", "--inactive"); after != before {
		t.Errorf("it is\n%s\nit was\n%s", after, before)
	}
}

const (
	hostOnBridge = "10.99.1.99" // the outside's
	onBridge     = "10.99.1.2"  // the guest's
)

// TestBootedGuestOfLibvirtOnABridge does to one guest what needs no boot of its own.
func TestBootedGuestOfLibvirtOnABridge(t *testing.T) {
	t.Parallel()
	b := newBridgeBed(t)
	b.wire(1)
	b.start()
	g := b.boot(testkit.LibvirtGuestOptions{Name: "vm1", VCPUs: 4, Persistent: true, RootPorts: 4})
	for _, sub := range []struct {
		name string
		run  func(*inmate)
	}{
		{"FilterStaysOverSaveAndRestore", portSavedAndRestored},
		{"DeviceDeleted", func(g *inmate) { deviceDeleted(g, 1) }},
		{"AnotherMACIsFilteredToo", portFollowsMAC},
		{"HandedOverByFD", func(g *inmate) { byFD(g, 1); byFD(g, 4) }},
	} {
		if !t.Run(sub.name, func(t *testing.T) {
			outer := b.t
			b.t = t
			defer func() { b.t = outer }()
			sub.run(g)
			b.nothing()
		}) {
			break // the guest is in a state that the next does not expect
		}
	}
}

// portSavedAndRestored: with the addresses that were asked for, and nothing but these.
func portSavedAndRestored(g *inmate) {
	b := g.b
	att, nic := g.give("--network", "lan", "--queues", "4", "--ip", onBridge, "--ip", "fd99:1::2")
	g.usesQueues(nic, 4)
	works := func(what string) {
		b.t.Helper()
		if !g.reaches(1, true) {
			b.t.Errorf("%s: the outside is not reached\ndaemon: %s", what, b.daemon.log)
		}
		g.sh("ip addr add 10.99.1.77/24 dev %s", nic)
		_, err := g.within(30*time.Second, "ping -q -c 2 -i 0.2 -W 1 -I 10.99.1.77 %s", hostOnBridge)
		if err == nil {
			b.t.Errorf("%s: an address that is not the guest's passes", what)
		}
		g.sh("ip addr del 10.99.1.77/24 dev %s", nic)
	}
	works("attached")
	file := filepath.Join(b.Dir, "port.save")
	b.Virsh("save", g.Name, file)
	b.nothing()
	b.Virsh("restore", file)
	now := b.stands(g.Name, inLibvirt{id: att.ID, network: "lan", problem: liveOnly})[att.ID]
	if now.MAC != att.MAC || now.Mode != att.Mode || now.Queues != att.Queues || fmt.Sprint(now.IPs) != fmt.Sprint(att.IPs) {
		b.t.Errorf("it is %+v, it was %+v", now, att)
	}
	b.isPort(now, true)
	works("restored")
	g.take(now)
}

// portFollowsMAC: the filter lets the guest's new MAC pass, and no other.
func portFollowsMAC(g *inmate) {
	b := g.b
	att, nic := g.give("--network", "free")
	for _, mac := range []string{guestsOwnMAC, att.MAC} {
		g.anotherMAC(nic, mac)
		want := tapdev.HostMAC(vmnetd.Tap, parseMAC(b.t, mac))
		b.eventually("the device follows", 10*time.Second, func() error {
			if now := b.host.Link(b.t, att.Ifname).MAC; !bytes.Equal(now, want) {
				return fmt.Errorf("its MAC is %s, want %s", now, want)
			}
			return nil
		})
		b.eventually("the filter follows", 10*time.Second, func() error {
			if rules := b.inside(b.host, "nft", "list", "ruleset"); !strings.Contains(rules, mac) {
				return fmt.Errorf("%s", rules)
			}
			return nil
		})
		if !g.reaches(1, true) {
			b.t.Errorf("from %s the outside is not reached\nnft: %s\ndaemon: %s", mac, b.inside(b.host, "nft", "list", "ruleset"), b.daemon.log)
		}
		if _, err := b.outside.Command(context.Background(), "ping", "-q", "-c", "1", "-W", "20", onBridge).CombinedOutput(); err != nil {
			b.t.Errorf("%s is not reached at %s", onBridge, mac)
		}
	}
	g.take(att)
}
