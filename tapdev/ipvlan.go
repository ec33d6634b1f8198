package tapdev

import "github.com/vmnetd/vmnetd/internal/rtnl"

// ipvlan is the message that makes the device. It has no MAC: the device gets its
// lower one's.
func ipvlan(s Spec) rtnl.NewLink {
	return rtnl.NewLink{
		Name: s.Ifname, Kind: "ipvlan", Lower: s.Lower, MTU: s.MTU, Group: Group,
		Data: rtnl.IpvlanMode(string(s.Mode), s.Flag),
	}
}
