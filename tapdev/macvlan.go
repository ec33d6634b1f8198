package tapdev

import "github.com/vmnetd/vmnetd/internal/rtnl"

// macvlan is the message that makes the device; what is ignored in that of a
// macvtap is ignored here too.
func macvlan(s Spec) rtnl.NewLink {
	return rtnl.NewLink{
		Name: s.Ifname, Kind: "macvlan", Lower: s.Lower, MAC: s.MAC, MTU: s.MTU, Group: Group,
		Data: rtnl.MacvlanMode(string(s.Mode)),
	}
}
