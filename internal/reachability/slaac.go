package reachability

import (
	"context"
	"net/netip"
)

// autoconfigured waits for an address that the node has made in a router's prefix.
func (n *Node) autoconfigured(index int, within netip.Prefix, stop <-chan struct{}) (netip.Addr, bool) {
	for !ended(stop) {
		list, _ := n.Netns.Conn().AddrsOf(context.Background(), index) // a busy kernel is asked again
		for _, a := range list {
			if a.Dynamic && within.Contains(a.Prefix.Addr()) {
				return a.Prefix.Addr(), true
			}
		}
		wait(stop)
	}
	return netip.Addr{}, false
}
