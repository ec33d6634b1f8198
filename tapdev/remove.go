package tapdev

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// batchFrom is how many devices are worth a batch: one by one each costs 17 to
// 31 ms of waiting for RCU, a batch of any size costs that once, and two looks
// at all links.
const batchFrom = 4

// Remove deletes devices. One that has gone, or whose index or name belongs to
// another device now, is fine. Their nodes in /dev go with them, also that of a
// device that has gone, where its Rdev is given. What a passthru leaves to be put
// right is RestoreMAC's.
func (h *Host) Remove(ctx context.Context, devs ...Device) error {
	var doomed []rtnl.Link
	for _, d := range devs {
		link, err := h.current(ctx, d)
		switch {
		case errors.Is(err, vmnetd.ErrNotFound):
			if err := h.dropDeadNode(d); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			doomed = append(doomed, link)
		}
	}
	if err := h.dropNodes(doomed); err != nil {
		return err
	}
	if len(doomed) >= batchFrom && h.removeBatch(ctx, doomed) == nil {
		return nil
	}
	var errs []error
	for _, l := range doomed {
		errs = append(errs, h.removeOne(ctx, l))
	}
	return errors.Join(errs...)
}

// dropNodes removes the nodes before the devices: while these live, their numbers
// are nobody else's, and who is interrupted leaves no node behind.
func (h *Host) dropNodes(doomed []rtnl.Link) error {
	for _, l := range doomed {
		rdev, err := h.rdev(l)
		if err != nil {
			continue // it has gone this moment, and so has what the kernel made
		}
		if err := h.dropNode(l.Index, rdev); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) removeOne(ctx context.Context, l rtnl.Link) error {
	err := h.conn.Delete(ctx, l.Index)
	if err == nil || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot delete %s: %w", nameOf(l), err)
}

// removeBatch moves the doomed into a group of their own and deletes the
// group, if by then exactly they are in it: a group delete takes whatever has
// that group.
func (h *Host) removeBatch(ctx context.Context, doomed []rtnl.Link) error {
	group, err := h.freeGroup(ctx)
	if err != nil {
		return err
	}
	for _, l := range doomed {
		err := h.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.Group(group)}})
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	links, err := h.conn.Links(ctx)
	if err != nil {
		return err
	}
	if err := onlyThese(links, group, doomed); err != nil {
		return err
	}
	return h.conn.DeleteGroup(ctx, group)
}

// freeGroup is a random group that no link is in. The lower numbers are left
// to people.
func (h *Host) freeGroup(ctx context.Context) (uint32, error) {
	links, err := h.conn.Links(ctx)
	if err != nil {
		return 0, err
	}
	used := map[uint32]bool{Group: true}
	for _, l := range links {
		used[l.Group] = true
	}
	for {
		if g := 1<<30 | rand.Uint32N(1<<30); !used[g] {
			return g, nil
		}
	}
}

func onlyThese(links []rtnl.Link, group uint32, doomed []rtnl.Link) error {
	known := map[int]rtnl.Link{}
	for _, d := range doomed {
		known[d.Index] = d
	}
	for _, l := range links {
		if d := known[l.Index]; l.Group == group && (d.Name != l.Name || d.Kind != l.Kind) {
			return fmt.Errorf("%s is in group %d too", l.Name, group)
		}
	}
	return nil
}
