package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// wired is a network namespace with an uplink u0, and the peer at its other end.
func wired(t *testing.T) (host, peer *Netns) {
	t.Helper()
	host, peer = NewNetns(t), NewNetns(t)
	NewVeth(t, host, "u0", peer, "far0")
	peer.mustIP(t, "address", "add", "192.0.2.1/24", "dev", "far0")
	return host, peer
}

func (n *Netns) mustIP(t TB, args ...string) {
	t.Helper()
	if out, err := n.Command(context.Background(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// byName is an <interface> on a macvtap that is made here.
func (n *Netns) byName(t TB, name string, mac net.HardwareAddr) string {
	t.Helper()
	index := fmt.Sprint(1<<20 + rand.IntN(1<<30)) // /dev/tapINDEX is one for all namespaces
	n.mustIP(t, "link", "add", "name", name, "index", index, "address", mac.String(), "link", "u0", "type", "macvtap", "mode", "bridge")
	n.SetUp(t, name)
	return fmt.Sprintf("<interface type='ethernet'><mac address='%s'/><target dev='%s' managed='no'/><model type='virtio'/></interface>", mac, name)
}

func TestGuestOfLibvirtTakesCommandsWhateverBecomesOfItsQEMU(t *testing.T) {
	Require(t, "libvirt")
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootLimit)
	defer cancel()
	host, peer := wired(t)
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x1b}
	l := StartLibvirtd(t, LibvirtdOptions{Netns: host.Do})
	began := time.Now()
	g := BootLibvirtGuest(t, l, LibvirtGuestOptions{
		Name: "vm1", Persistent: true, Interfaces: []string{host.byName(t, "vmntest1", mac)},
		Metadata: "<a:b xmlns:a='https://vmnetd.org/test'>c</a:b>",
	})
	t.Logf("up after %s", time.Since(began))
	name, err := g.WaitIface(ctx, mac)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Run(ctx, "ip address add 192.0.2.2/24 dev "+name+"; ip link set "+name+" up"); err != nil {
		t.Fatal(err)
	}
	pings := StartPings(t, peer, 20*time.Millisecond, netip.MustParseAddr("192.0.2.2"))
	answers := func(when string) {
		t.Helper()
		if !pings.Answered(3, Patience) {
			t.Fatalf("%s: no answer to pings %+v", when, pings.Counts())
		}
		if out, err := g.Run(ctx, "ping -c 1 -W 20 192.0.2.1"); err != nil || !strings.Contains(out, "1 packets received") {
			t.Fatalf("%s: %v\n%s", when, err, out)
		}
	}
	answers("after the boot")
	if xml := l.Virsh("metadata", "vm1", "https://vmnetd.org/test"); !strings.Contains(xml, "c") {
		t.Errorf("its metadata is %q", xml)
	}
	l.Kill()
	l.Start()
	answers("after libvirtd's death")
	file := g.Save(t)
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	l.Virsh("restore", file)
	answers("after save and restore")
	if _, err := g.Run(ctx, "exit 3"); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("exit 3: %v", err)
	}
	if _, err := g.Run(ctx, "touch /tmp/before"); err != nil {
		t.Fatal(err)
	}
	l.Virsh("reset", "vm1")
	if out, err := g.Run(ctx, "ls /tmp/before"); err == nil {
		t.Errorf("after a reset: %s", out)
	}
}
