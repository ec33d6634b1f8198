package tapdev

import (
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// queues is how the queues of a kind of device are opened, and told apart from
// those of others.
type queues interface {
	// count is how many queues the device has; 0 where the kernel cannot say.
	count(l rtnl.Link) int
	// open opens n queues and makes sure that they are the device's.
	open(h *Host, set *queuefd.Set, l rtnl.Link, n int) error
	// number is the device number of what the queues' descriptors are open on, and
	// mine tells those of the device among them.
	mine(h *Host, l rtnl.Link) (number uint64, mine func(pid, fd int) bool, err error)
}

// charQueues are opened by a character device of the device's own
// (drivers/net/tap.c).
type charQueues struct{ class string }

func (charQueues) count(l rtnl.Link) int { return l.Queues }

func (charQueues) open(h *Host, set *queuefd.Set, l rtnl.Link, _ int) error {
	rdev, err := h.rdev(l)
	if err != nil {
		return err
	}
	return h.openQueues(set, l, rdev)
}

// mine leaves out the descriptors of a device that has gone or was moved: its number
// is given to the next one while they are open (drivers/net/tap.c, tap_free_minor).
// Where a process does not let its descriptor be looked at, it counts as one of the
// device.
func (charQueues) mine(h *Host, l rtnl.Link) (uint64, func(pid, fd int) bool, error) {
	rdev, err := h.rdev(l)
	return rdev, func(pid, fd int) bool {
		name, err := queueName(pid, fd)
		return err != nil && !ended(err) || name == l.Name
	}, err
}
