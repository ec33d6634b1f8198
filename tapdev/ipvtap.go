package tapdev

import "github.com/vmnetd/vmnetd/internal/rtnl"

// ipvtap is the message that makes the device: an ipvlan with queues
// (drivers/net/ipvlan/ipvtap.c).
func ipvtap(s Spec) rtnl.NewLink {
	link := ipvlan(s)
	link.Kind, link.Queues = "ipvtap", s.Queues
	return link
}
