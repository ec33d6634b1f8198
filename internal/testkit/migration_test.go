package testkit

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestLiveMigrationOfALibvirtGuestIsMeasured moves a guest with libvirt's own
// type='direct' there and back: once it answers its peer, once it says nothing.
func TestLiveMigrationOfALibvirtGuestIsMeasured(t *testing.T) {
	Require(t, "libvirt")
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootLimit)
	defer cancel()
	hosts := NewTwoHosts(t)
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0x3a}
	a, b := StartLibvirtd(t, LibvirtdOptions{Netns: hosts.A.Do}), StartLibvirtd(t, LibvirtdOptions{Netns: hosts.B.Do})
	g := BootLibvirtGuest(t, a, LibvirtGuestOptions{Name: "moves", Interfaces: []string{
		fmt.Sprintf("<interface type='direct'><mac address='%s'/><source dev='u0' mode='bridge'/><model type='virtio'/></interface>", mac),
	}})
	hosts.Acquaint(t, g, mac.String(), "192.0.2.2", PeerAddress)
	pings := StartPings(t, hosts.Peer, 10*time.Millisecond, netip.MustParseAddr("192.0.2.2"))
	answers := MeasureMigration(t, pings, b, func() error { return g.Migrate(b, nil) })[0]
	t.Logf("a guest that answers: %s", answers)
	hosts.Mute(t, pings)
	silent := MeasureMigration(t, pings, a, func() error { return g.Migrate(a, nil) })[0]
	t.Logf("a guest that says nothing: %s", silent)
	if out, err := g.Run(ctx, "echo here"); err != nil || out != "here\n" {
		t.Errorf("where it is now the guest says %q, %v", out, err)
	}
	if left := b.Virsh("list", "--name"); len(left) > 1 {
		t.Errorf("the host that it left has %q", left)
	}
	if answers.Lost == answers.Sent || silent.Lost == silent.Sent {
		t.Error("nothing was answered")
	}
}
