package rtnl

import (
	"context"
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Dropped is how many frames that a link received it has dropped itself
// (uapi/linux/if_link.h, struct rtnl_link_stats64, rx_dropped): no buffer, or
// nobody who wanted them.
func (c *Conn) Dropped(ctx context.Context, index int) (dropped uint64, err error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	msgs, err := c.run(ctx, request{msg: req, reply: unix.RTM_NEWLINK})
	if err != nil {
		return 0, err
	}
	const rxDropped = 6 * 8 // after rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors and tx_errors
	for _, m := range msgs {
		Each(m[min(len(m), unix.SizeofIfInfomsg):], func(attr int, v []byte) {
			if attr == unix.IFLA_STATS64 && len(v) >= rxDropped+8 {
				dropped = binary.NativeEndian.Uint64(v[rxDropped:])
			}
		})
	}
	return dropped, nil
}
