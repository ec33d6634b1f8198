package rtnl

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// Attributes of RTM_NEWNSID (uapi/linux/net_namespace.h). The value -1 of the id
// says that there is none.
const (
	netnsaNSID = 1
	netnsaFD   = 3
)

// nsidTries bounds how often a number is drawn that another namespace has.
const nsidTries = 10

// NSID is the number that the Conn's namespace has for the one of an open
// descriptor; ok is false where it has none. It is gone with that namespace, which
// it does not hold.
func (c *Conn) NSID(ctx context.Context, fd int) (id int, ok bool, err error) {
	msgs, err := c.run(ctx, request{msg: nsidMessage(unix.RTM_GETNSID, 0, fd), reply: unix.RTM_NEWNSID})
	if err != nil {
		return 0, false, err
	}
	if len(msgs) != 1 {
		return 0, false, vmnetd.Errorf(vmnetd.ErrFailed, "the kernel answered one question about a namespace with %d answers", len(msgs))
	}
	id, ok = parseNSID(msgs[0])
	return id, ok, nil
}

// firstDrawn is above the numbers that the kernel and people give.
const firstDrawn = 1 << 16

// Drawn says that EnsureNSID has drawn a number: no other namespace has or had it.
// One that the kernel has counted is another's as soon as its namespace has gone.
func Drawn(id int) bool { return id >= firstDrawn }

// EnsureNSID is NSID that draws a number where there is none. The kernel itself
// gives the lowest free one (net/core/net_namespace.c, alloc_netid), to the next
// namespace again as soon as one has gone; one that is drawn tells them apart.
func (c *Conn) EnsureNSID(ctx context.Context, fd int) (int, error) {
	for try := 1; ; try++ {
		id, ok, err := c.NSID(ctx, fd)
		if ok || err != nil {
			return id, err
		}
		drawn := firstDrawn + rand.Int32N(1<<30)
		msg := nsidMessage(unix.RTM_NEWNSID, unix.NLM_F_ACK, fd)
		msg.AddData(nl.NewRtAttr(netnsaNSID, nl.Uint32Attr(uint32(drawn))))
		_, err = c.run(ctx, request{msg: msg})
		// EEXIST: the namespace was given one meanwhile; ENOSPC: the number is taken.
		if again := errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOSPC); err != nil && (!again || try == nsidTries) {
			return 0, err
		}
	}
}

func nsidMessage(kind, flags, fd int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddData(&nl.RtGenMsg{RtGenmsg: unix.RtGenmsg{Family: unix.AF_UNSPEC}})
	req.AddData(nl.NewRtAttr(netnsaFD, nl.Uint32Attr(uint32(fd))))
	return req
}

// sizeofRtGenmsg is struct rtgenmsg with its padding (linux/rtnetlink.h).
const sizeofRtGenmsg = 4

func parseNSID(b []byte) (id int, ok bool) {
	if len(b) < sizeofRtGenmsg {
		return 0, false
	}
	each(b[sizeofRtGenmsg:], func(attr int, v []byte) {
		if attr == netnsaNSID && len(v) == 4 {
			id = int(int32(number(v)))
			ok = id >= 0
		}
	})
	return id, ok
}

// NSIDWatch hears of the end of namespaces that have a number.
type NSIDWatch struct{ sock *nl.NetlinkSocket }

// WatchNSIDs subscribes in the Conn's namespace; Run ends it.
func (c *Conn) WatchNSIDs() (*NSIDWatch, error) {
	var sock *nl.NetlinkSocket
	err := c.Do(func() error {
		var err error
		sock, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_NSID)
		return err
	})
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot subscribe to messages about network namespaces: %w", err)
	}
	return &NSIDWatch{sock: sock}, nil
}

// Close ends the subscription; Run does it by itself when it ends.
func (w *NSIDWatch) Close() { w.sock.Close() }

// Run calls gone with the number of each namespace that has ended (cleanup_net,
// some time after its last reference went), and with -1 when messages were lost.
// The number may be another's by then. It ends with ctx, which is no error.
func (w *NSIDWatch) Run(ctx context.Context, gone func(id int)) error {
	stop := context.AfterFunc(ctx, w.sock.Close) // ends a Receive that waits
	defer stop()
	defer w.Close()
	for ctx.Err() == nil {
		msgs, _, err := w.sock.Receive()
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, unix.ENOBUFS):
			gone(-1)
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot read messages about network namespaces: %w", err)
		}
		for _, m := range msgs {
			if id, ok := parseNSID(m.Data); ok && m.Header.Type == unix.RTM_DELNSID {
				gone(id)
			}
		}
	}
	return nil
}
