package reachability

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

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
	return []string{netip.PrefixFrom(n.IP4, bits4).String(), netip.PrefixFrom(n.IP6, bits6).String()}
}

// configure gives the node's device its addresses, as an administrator does.
func (n *Node) configure(t testkit.TB, options ...string) {
	t.Helper()
	for _, prefix := range n.Prefixes() {
		n.ip(t, append([]string{"address", "add", prefix, "dev", n.Device}, options...)...)
	}
}

// allowPings opens sockets for echo requests to root, too (icmp(7)).
func allowPings(t testkit.TB, ns *testkit.Netns) {
	t.Helper()
	sysctl(t, ns, "ipv4/ping_group_range=0 0")
}

func (n *Node) ip(t testkit.TB, args ...string) {
	t.Helper()
	n.Netns.Run(t, "ip", args...)
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
