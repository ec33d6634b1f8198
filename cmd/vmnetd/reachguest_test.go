package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/reachability"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// guestBed is a lab with a guest that was saved elsewhere and runs.
type guestBed struct {
	*reachability.Lab
	t      *testing.T
	vm     *testkit.Guest
	socket string
	began  time.Time
}

func newGuestBed(t *testing.T, nics ...string) *guestBed {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnguest") // a socket path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", testkit.StartBus(t))
	b := &guestBed{t: t, socket: filepath.Join(dir, "q"), began: time.Now()}
	b.Lab = reachability.NewLab(t, vmnetdProgram(t), nics...)
	for _, r := range b.Rows {
		b.AddGuest(r)
	}
	b.lap("the neighbours have their NICs")
	b.vm = testkit.RestoreGuest(t, testkit.GuestOptions{Name: "saved", QMPSocket: b.socket, Netns: b.Host.Do})
	b.lap("the guest is restored")
	return b
}

func (b *guestBed) lap(what string) { b.t.Logf("%5.1f s: %s", time.Since(b.began).Seconds(), what) }

// plug gives the guest a NIC and has it configure it, as docs/modes.md says.
func (b *guestBed) plug(r *reachability.Row) (*reachability.Node, vmnetd.Attachment) {
	b.t.Helper()
	n, att := b.Plug(r, b.vm.Name, fmt.Sprintf("net%d", r.Number), b.socket)
	mac, err := net.ParseMAC(att.MAC)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), slowGuest)
	defer cancel()
	nic, err := b.vm.WaitIface(ctx, mac)
	if err != nil {
		b.t.Fatal(err)
	}
	script := fmt.Sprintf("echo 3 >/proc/sys/net/ipv6/conf/%s/addr_gen_mode\n", nic)
	for _, prefix := range n.Prefixes() {
		script += fmt.Sprintf("ip address add %s dev %s\n", prefix, nic)
	}
	b.run(script + "ip link set " + nic + " up")
	return n, att
}

// run runs a script in the guest.
func (b *guestBed) run(script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), slowGuest)
	defer cancel()
	if out, err := b.vm.Run(ctx, script); err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// reaches holds that the guest and others ping each other, IPv4 and IPv6.
func (b *guestBed) reaches(guest *reachability.Node, others ...*reachability.Node) {
	b.t.Helper()
	var script strings.Builder
	for _, other := range others {
		for _, pair := range [][2]netip.Addr{{guest.IP4, other.IP4}, {guest.IP6, other.IP6}} {
			if !other.Reaches(pair[0], slowGuest) {
				b.t.Errorf("the %s does not reach the guest at %s", other.Name, pair[0])
			}
			fmt.Fprintf(&script, "until ping -c 1 -W 5 %s; do :; done\n", pair[1])
		}
	}
	b.run(script.String())
}

// outlives holds that the guest's traffic does not notice that the daemon dies and
// comes back.
func (b *guestBed) outlives(r *reachability.Row, guest *reachability.Node) {
	b.t.Helper()
	pings := testkit.StartPings(b.t, r.Outside.Netns, 200*time.Millisecond, guest.IP4)
	defer pings.Stop()
	if !pings.Answered(3, slowGuest) {
		b.t.Fatalf("%s: %+v", r.NIC, pings.Counts())
	}
	pings.Begin()
	b.Kill()
	b.Start()
	if !pings.Answered(3, slowGuest) {
		b.t.Fatalf("%s, after the daemon was killed and started: %+v", r.NIC, pings.Counts())
	}
	count := pings.Counts()[0]
	b.t.Logf("%s, while the daemon was killed and started: %+v", r.NIC, count)
	if count.Lost > 0 || count.Sent < 3 {
		b.t.Errorf("%s: the guest has noticed: %+v", r.NIC, count)
	}
}

func TestVMAGuestReachesOthersOnIpvtapsAndATapWhateverTheDaemonDoes(t *testing.T) {
	testkit.Require(t, "vm")
	b := newGuestBed(t, "ipvtap l2", "ipvtap l3", "tap switched")
	for _, r := range b.Rows {
		guest, att := b.plug(r)
		b.lap("it has a " + r.NIC)
		b.reaches(guest, r.Outside, r.Guests[0])
		b.lap("it reaches and is reached")
		b.outlives(r, guest)
		b.lap("the daemon was killed and is back")
		if _, err := b.Client.Detach(t.Context(), att.VM, agent.Selector{ID: att.ID}); err != nil {
			t.Fatal(err)
		}
		b.lap("it is detached")
	}
}
