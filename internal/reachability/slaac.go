package reachability

import (
	"context"
	"net/netip"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// autoconfigured waits for an address that a node has made in a router's prefix.
func (n *Node) autoconfigured(t testkit.TB, within netip.Prefix, stop <-chan struct{}) (netip.Addr, bool) {
	index := n.Netns.Link(t, n.Device).Index
	for !ended(stop) {
		list, err := n.Netns.Conn().AddrsOf(context.Background(), index)
		if err != nil {
			return netip.Addr{}, false
		}
		for _, a := range list {
			if a.Dynamic && within.Contains(a.Prefix.Addr()) {
				return a.Prefix.Addr(), true
			}
		}
		wait(stop)
	}
	return netip.Addr{}, false
}
