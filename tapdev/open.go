package tapdev

import (
	"cmp"
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Open opens the device's queues and, where the host has it, vhost-net once
// for each. That the descriptors are this device's is checked before, in and
// after opening: by the device number, by what each queue says of itself, and
// by looking again once all are open. How many those of a tap with several are only
// dev.Queues says. The caller closes the set.
func (h *Host) Open(ctx context.Context, dev Device) (*queuefd.Set, error) {
	link, err := h.current(ctx, dev)
	if err != nil {
		return nil, err
	}
	k, _ := kindOf(link)
	if k.queues == nil {
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%s is a %s, which has no queues", nameOf(link), k.name)
	}
	rdev, err := h.rdev(link)
	if err != nil {
		return nil, err
	}
	n := cmp.Or(dev.Queues, k.queues.count(link))
	set := &queuefd.Set{}
	err = errors.Join(k.queues.open(h, set, link, n), h.openVHost(set, n))
	if err == nil {
		err = h.stillThere(ctx, dev, rdev)
	}
	if err != nil {
		_ = set.Close()
		return nil, err
	}
	return set, nil
}

func (h *Host) openQueues(set *queuefd.Set, link rtnl.Link, rdev uint64) error {
	n, err := h.openNode(link.Index, rdev)
	if err != nil {
		return err
	}
	defer n.close()
	for i := range link.Queues {
		fd, err := n.open()
		if err != nil {
			return whyNotOpened(link, i, err)
		}
		set.Queues = append(set.Queues, fd)
		err = isDevice(fd, rdev)
		if err == nil {
			err = checkQueue(fd, link)
		}
		if err == nil {
			err = setQueue(fd, link.Name, link.Queues > 1)
		}
		if err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot use queue %d of %s: %w", i, nameOf(link), err).WithNext("try again")
		}
	}
	return nil
}

func whyNotOpened(link rtnl.Link, queue int, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY): // drivers/net/tap.c, tap_set_queue
		return vmnetd.Errorf(vmnetd.ErrBusy, "cannot open queue %d of %s: all %d queues that a device can have are open: %w", queue, nameOf(link), MaxQueues, err).
			WithNext("end the process that holds them")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot open queue %d of %s: %w", queue, nameOf(link), err).
			WithNext("the device policy must allow char-" + link.Kind)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "cannot open queue %d of %s: it has gone: %w", queue, nameOf(link), err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot open queue %d of %s: %w", queue, nameOf(link), err)
}

// stillThere makes sure that the device was not replaced by another one with
// the same number while its queues were opened. An open queue does not keep
// its device, and writing to one whose device has gone succeeds.
func (h *Host) stillThere(ctx context.Context, dev Device, rdev uint64) error {
	link, err := h.current(ctx, dev)
	if err != nil {
		return err
	}
	now, err := h.rdev(link)
	if err == nil && now != rdev {
		err = vmnetd.Errorf(vmnetd.ErrFailed, "%s was replaced while its queues were opened", nameOf(link)).WithNext("try again")
	}
	return err
}
