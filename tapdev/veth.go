package tapdev

import "github.com/vmnetd/vmnetd/internal/rtnl"

// veth is the message that makes both ends: the host's, and in the Spec's Peer,
// under the same name and with the MAC asked for, the far one
// (drivers/net/veth.c, veth_newlink). Only the host's is ours by its mark; the far
// end has the group alone.
func veth(s Spec) rtnl.NewLink {
	far := []rtnl.Attr{rtnl.MAC(s.MAC), rtnl.MTU(s.MTU), rtnl.Group(Group)}
	return rtnl.NewLink{
		Name: s.Ifname, Kind: "veth", MAC: portMAC(s.MAC), MTU: s.MTU, Group: Group,
		Data: rtnl.VethPeer(s.Ifname, s.Peer, far...),
	}
}
