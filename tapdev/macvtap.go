package tapdev

import "github.com/vmnetd/vmnetd/internal/rtnl"

// macvtap is the message that makes the device: everything that the kernel
// takes at that moment. Passthru ignores the MAC in it without a word
// (drivers/net/macvlan.c, macvlan_common_newlink: eth_hw_addr_inherit), and the
// alias is ignored in every mode.
func macvtap(s Spec) rtnl.NewLink {
	return rtnl.NewLink{
		Name: s.Ifname, Kind: "macvtap", Lower: s.Lower,
		MAC: s.MAC, MTU: s.MTU, Queues: s.Queues, Group: Group,
		Data: rtnl.MacvlanMode(string(s.Mode)),
	}
}
