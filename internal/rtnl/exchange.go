package rtnl

import (
	"context"

	"github.com/vishvananda/netlink/nl"
)

// Exchange sends a message that has no verb here, such as tc's, and waits for
// the answers of type reply; 0: for the acknowledgement alone. Errors are the
// kernel's (errors.Is with a unix.Errno) with its own words.
func (c *Conn) Exchange(ctx context.Context, msg *nl.NetlinkRequest, reply uint16) ([][]byte, error) {
	return c.run(ctx, request{msg: msg, reply: reply})
}
