package rtnl

// Pending is how many requests the kernel is at, given up or not.
func (c *Conn) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending
}
