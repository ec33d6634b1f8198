package reachability

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Node is somebody who sends and hears: a guest, the host, the peer outside.
type Node struct {
	Name     string
	Netns    *testkit.Netns
	Device   string
	IP4, IP6 netip.Addr
}

// Lengths of the prefixes of Node's addresses.
const (
	bits4 = 24
	bits6 = 64
)

// Prefixes is the node's addresses with their lengths.
func (n *Node) Prefixes() []string {
	p := n.prefixes()
	return []string{p[0].String(), p[1].String()}
}

func (n *Node) prefixes() [2]netip.Prefix {
	return [2]netip.Prefix{netip.PrefixFrom(n.IP4, bits4), netip.PrefixFrom(n.IP6, bits6)}
}

// configure gives the node's device its addresses. Not by ip(8), which takes a
// second to start where everything is emulated.
func (n *Node) configure(t testkit.TB) {
	t.Helper()
	for _, prefix := range n.prefixes() {
		if err := n.Netns.Conn().AddAddr(context.Background(), n.index(t), rtnl.Addr{Prefix: prefix}); err != nil {
			t.Fatalf("cannot give the %s %s: %v", n.Name, prefix, err)
		}
	}
}

// route has the node send what is for a prefix to another one.
func (n *Node) route(t testkit.TB, to netip.Prefix, via *Node) {
	t.Helper()
	hop := via.IP4
	if to.Addr().Is6() {
		hop = via.IP6
	}
	if err := n.Netns.Conn().AddRoute(context.Background(), n.index(t), rtnl.Route{To: to, Via: hop}); err != nil {
		t.Fatalf("the %s cannot route %s: %v", n.Name, to, err)
	}
}

func (n *Node) index(t testkit.TB) int {
	t.Helper()
	return n.Netns.Link(t, n.Device).Index
}

// allowPings opens sockets for echo requests to root, too (icmp(7)).
func allowPings(t testkit.TB, ns *testkit.Netns) {
	t.Helper()
	sysctl(t, ns, "ipv4/ping_group_range=0 0")
}

// sysctl writes settings of the network, each PATH=VALUE with slashes, in the order given.
func sysctl(t testkit.TB, ns *testkit.Netns, settings ...string) {
	t.Helper()
	for _, setting := range settings {
		path, value, _ := strings.Cut(setting, "=")
		err := ns.Do(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
		if err != nil {
			t.Fatalf("%v", fmt.Errorf("cannot set %s: %w", setting, err))
		}
	}
}
