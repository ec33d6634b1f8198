package tapdev

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Group is the link group of our devices, the letters "vmn". Unlike the alias
// it can be given in the message that makes a device, so it marks one from its
// first moment.
const Group uint32 = 0x766d6e

// Links is what a Host asks the mirror of links for (rtnl.Watch).
type Links interface {
	ByIndex(index int) (rtnl.Link, bool)
	On(lower int) []rtnl.Link
}

// Host makes devices in one network namespace: the one its connection is
// bound to.
type Host struct {
	conn  *rtnl.Conn
	links Links
	fail  failpoint.Set
	sysfs sysfs
	dev   string     // where device nodes live
	vhost string     // the vhost-net device
	tun   string     // what taps are made and opened by
	index func() int // an index for a device whose next one will not do
	found *had       // kinds that the kernel was found to have

	searching    sync.Mutex    // for whoever holds queues
	execPatience time.Duration // with a process that is about to run another program
}

// Option changes what a Host works with.
type Option func(*Host)

// WithVHost names the vhost-net device instead of /dev/vhost-net.
func WithVHost(path string) Option { return func(h *Host) { h.vhost = path } }

// New makes a Host. Without links (nil) it asks the kernel for every link when
// it has to name who is in the way. Close it when it is no longer needed.
func New(conn *rtnl.Conn, links Links, fail failpoint.Set, opts ...Option) *Host {
	h := &Host{conn: conn, links: links, fail: fail, sysfs: openSysfs(conn), dev: "/dev", vhost: "/dev/vhost-net", tun: tunDevice, index: randomIndex, found: newHad(), execPatience: 100 * time.Millisecond}
	for _, o := range opts {
		o(h)
	}
	return h
}

// Close lets go of what New opened; devices stay as they are.
func (h *Host) Close() error {
	fd := h.sysfs.fd
	h.sysfs.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// users is the devices that stand on a lower device.
func (h *Host) users(ctx context.Context, lower int) []rtnl.Link {
	if h.links != nil {
		return h.links.On(lower)
	}
	links, err := h.conn.Links(ctx)
	if err != nil && links == nil {
		return nil
	}
	var on []rtnl.Link
	for _, l := range links {
		if l.LowerHere && l.Lower == lower {
			on = append(on, l)
		}
	}
	return on
}
