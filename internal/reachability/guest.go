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

// Request asks for the NIC of the row's guest of that number.
func (r *Row) Request(number int) vmnetd.Request {
	n := r.node("", nil, "", byte(guestNumber+number))
	return vmnetd.Request{VM: fmt.Sprintf("%s-%d", r.Host.Device, number), ID: "net0", IPs: n.prefixes(), Queues: 1, NoVHost: true}
}

// AddGuest gives the row another guest: a VM whose kernel is this one, or a network
// namespace.
func (l *Lab) AddGuest(r *Row) *Node {
	l.t.Helper()
	n := r.node(fmt.Sprintf("guest %d", len(r.Guests)), nil, testkit.GuestDevice, byte(guestNumber+len(r.Guests)))
	req := r.Request(len(r.Guests))
	r.Guests = append(r.Guests, n)
	var got vmnetd.Attachment
	if r.endpoint {
		got = l.endpoint(n, req)
	} else {
		got = l.vm(r, n, req)
	}
	l.holds(r, got)
	r.routed(l.t, got.GuestSide)
	return n
}

// holds sees that what was made is what the row is about.
func (l *Lab) holds(r *Row, got vmnetd.Attachment) {
	l.t.Helper()
	if got.Device() != r.NIC || got.Phase != vmnetd.Attached {
		l.t.Fatalf("attached as %+v, want a %s", got, r.NIC)
	}
}

// endpoint gives a namespace its device, which vmnetd configures.
func (l *Lab) endpoint(n *Node, req vmnetd.Request) vmnetd.Attachment {
	l.t.Helper()
	n.Netns = testkit.NewNetns(l.t)
	req.Via, req.Name, req.Queues, req.NoVHost = "netns:"+l.named(n.Netns), n.Device, 0, false
	got, err := l.client.Attach(context.Background(), req)
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	return got
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
	got, set, err := l.client.OpenTap(context.Background(), req, 0)
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
