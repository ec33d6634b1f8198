package rtnl

import "github.com/vmnetd/vmnetd/internal/netns"

// NS is the namespace that the Conn works in. It is the Conn's, valid until Close.
func (c *Conn) NS() *netns.NS { return c.ns }
