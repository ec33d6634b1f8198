package reachability

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// newGuest is the row's next guest, without anything yet, and what asks for its NIC.
func (r *Row) newGuest() (*Node, vmnetd.Request) {
	number := len(r.Guests)
	n := r.node(fmt.Sprintf("guest %d", number), nil, testkit.GuestDevice, byte(guestNumber+number))
	r.Guests = append(r.Guests, n)
	return n, vmnetd.Request{VM: fmt.Sprintf("%s-%d", r.Host.Device, number), ID: "net0", Network: r.Host.Device, IPs: n.Prefixes()}
}

// AddGuest gives the row another guest: a VM whose kernel is this one, or a network
// namespace.
func (l *Lab) AddGuest(r *Row) *Node {
	l.t.Helper()
	n, req := r.newGuest()
	give := l.vm
	if r.endpoint {
		give = l.endpoint
	}
	l.holds(r, give(r, n, req))
	allowPings(l.t, n.Netns)
	return n
}

// Plug gives the row another guest: a VM whose QEMU listens on that socket. Its
// operating system is configured by whoever calls.
func (l *Lab) Plug(r *Row, vm, id, socket string) (*Node, vmnetd.Attachment) {
	l.t.Helper()
	n, req := r.newGuest()
	req.VM, req.ID, req.Via = vm, id, "qmp:"+socket
	got := l.attach(req)
	l.holds(r, got)
	return n, got
}

// PlugUnknown is Plug for a guest whose address nobody knows yet.
func (l *Lab) PlugUnknown(r *Row, vm, socket string) {
	l.t.Helper()
	l.holds(r, l.attach(vmnetd.Request{VM: vm, Network: r.Host.Device, Via: "qmp:" + socket}))
}

func (l *Lab) attach(req vmnetd.Request) vmnetd.Attachment {
	l.t.Helper()
	got, err := l.Client.Attach(context.Background(), req)
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	return got
}

// holds sees that what was made is what the row is about, and has the outside route
// to it.
func (l *Lab) holds(r *Row, got vmnetd.Attachment) {
	l.t.Helper()
	if got.Device() != r.NIC || got.Phase != vmnetd.Attached {
		l.t.Fatalf("attached as %+v, want a %s", got, r.NIC)
	}
	r.routed(l.t, got.GuestSide)
}

// endpoint gives a namespace its device, which vmnetd configures.
func (l *Lab) endpoint(_ *Row, n *Node, req vmnetd.Request) vmnetd.Attachment {
	l.t.Helper()
	n.Netns = testkit.NewNetns(l.t)
	req.Via, req.Name = "netns:"+l.named(n.Netns), n.Device
	return l.attach(req)
}

// named gives a namespace a path, as ip-netns(8) does: what is trusted has one.
func (l *Lab) named(ns *testkit.Netns) string {
	l.t.Helper()
	f, err := os.CreateTemp(l.dir, "ns-")
	if err == nil {
		err = errors.Join(f.Close(), unix.Mount(ns.Path(), f.Name(), "", unix.MS_BIND, ""))
	}
	if err != nil {
		l.t.Fatalf("cannot name a network namespace: %v", err)
	}
	l.t.Cleanup(func() { _ = unix.Unmount(f.Name(), unix.MNT_DETACH) })
	return f.Name()
}

// vm gives a guest its queues, and configures it as its administrator.
func (l *Lab) vm(r *Row, n *Node, req vmnetd.Request) vmnetd.Attachment {
	l.t.Helper()
	req.Queues, req.NoVHost = 1, true
	got, set, err := l.Client.OpenTap(context.Background(), req, 0)
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	l.t.Cleanup(func() { _ = set.Close() })
	mac, err := net.ParseMAC(got.MAC)
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	const virtioHeader = 10
	n.Netns = testkit.NewStackGuest(l.t, set.Queues, virtioHeader, mac, false).Netns
	if r.Mode.Info().SharesMAC { // as docs/modes.md asks for
		sysctl(l.t, n.Netns, "ipv6/conf/"+n.Device+"/addr_gen_mode=3")
	}
	sysctl(l.t, n.Netns, "ipv6/conf/"+n.Device+"/disable_ipv6=0")
	n.configure(l.t)
	return got
}
