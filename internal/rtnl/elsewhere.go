package rtnl

import (
	"context"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// Links of another namespace, by the number that the Conn's own has for it
// (IFLA_TARGET_NETNSID; net/core/rtnetlink.c, rtnl_get_net_ns_capable).

// LinkIn is the link with that ifindex in there; vmnetd.ErrNotFound when there is
// none, or no such namespace.
func (c *Conn) LinkIn(ctx context.Context, nsid, index int) (Link, error) {
	if index <= 0 {
		return Link{}, notIn(nsid, index)
	}
	l, err := c.link(ctx, index, targetNSID(nsid))
	return l, whyNotIn(nsid, index, err)
}

// DeleteIn deletes a link in there; errors as LinkIn's.
func (c *Conn) DeleteIn(ctx context.Context, nsid, index int) error {
	msg := linkMessage(unix.RTM_DELLINK, 0, Change{Index: index})
	msg.AddData(targetNSID(nsid))
	_, err := c.run(ctx, request{msg: msg})
	return whyNotIn(nsid, index, err)
}

func targetNSID(nsid int) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(uint32(nsid)))
}

// whyNotIn: EINVAL is a number that no namespace has.
func whyNotIn(nsid, index int, err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return notIn(nsid, index)
	}
	return err
}

func notIn(nsid, index int) error {
	return vmnetd.Errorf(vmnetd.ErrNotFound, "no network device has the index %d in the namespace with the number %d", index, nsid)
}
