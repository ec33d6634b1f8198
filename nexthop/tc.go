package nexthop

import (
	"context"
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// The place of our filter: tc(8) shows it as pref 30317 handle 0x1.
const (
	filterPriority = 0x766d
	filterHandle   = 1
)

// tc is the traffic control of one device.
type tc struct {
	*netlink.Handle
	link rtnl.Link
}

// openTC opens it in conn's namespace; its caller closes it.
func openTC(ctx context.Context, conn *rtnl.Conn, ifindex int) (*tc, error) {
	link, err := conn.LinkByIndex(ctx, ifindex)
	if err != nil {
		return nil, err
	}
	t := &tc{link: link}
	err = conn.Do(func() error {
		t.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open a netlink socket: %w", err)
	}
	return t, nil
}

// device is all of a device that tc messages hold.
func (t *tc) device() netlink.Link {
	return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: t.link.Index}}
}

// answers says whether our filter is there and is what this build would put there.
func (t *tc) answers() (bool, error) {
	filters, err := t.FilterList(t.device(), netlink.HANDLE_MIN_EGRESS)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return false, nil // no clsact
	case err != nil:
		return false, t.why("look for filters of", err)
	}
	for _, f := range filters {
		bpf, ok := f.(*netlink.BpfFilter)
		if ok && bpf.Priority == filterPriority && bpf.Handle == filterHandle && bpf.Name == filterName() && bpf.DirectAction {
			return true, nil
		}
	}
	return false, nil
}

// clsact makes the place for filters; one that is there, with filters of others,
// stays.
func (t *tc) clsact() error {
	attrs := netlink.QdiscAttrs{LinkIndex: t.link.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	err := t.QdiscAdd(&netlink.Clsact{QdiscAttrs: attrs})
	if !errors.Is(err, unix.EEXIST) {
		return t.why("make a clsact qdisc on", err)
	}
	qdiscs, err := t.QdiscList(t.device())
	if err != nil {
		return t.why("list the qdiscs of", err)
	}
	for _, q := range qdiscs {
		if q.Type() == "ingress" {
			return vmnetd.Errorf(vmnetd.ErrBusy, "%s has a qdisc of kind ingress, beside which there is no place for one of kind clsact", t.link.Name).
				WithNext("have who made it use clsact instead, which does the same and more: tc qdisc del dev " + t.link.Name + " ingress")
		}
	}
	return nil
}

// attach puts the program there, in the place of one of ours of another version.
func (t *tc) attach(program int) error {
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: t.link.Index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: program, Name: filterName(), DirectAction: true,
	}
	err := t.FilterReplace(filter)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EEXIST) {
		return vmnetd.Errorf(vmnetd.ErrBusy, "the place of our filter on %s (pref %d) is taken by another one: %w", t.link.Name, filterPriority, err).
			WithNext("see  tc filter show dev " + t.link.Name + " egress")
	}
	return t.why("put a filter on", err)
}

// why says in a sentence what the kernel refused; nil for nil.
func (t *tc) why(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "cannot %s %s: it has gone: %w", what, t.link.Name, err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOENT):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "cannot %s %s: this kernel lacks sch_ingress or cls_bpf, or it may not be done here: %w", what, t.link.Name, err).
			WithNext("modprobe -a sch_ingress cls_bpf; guests need static neighbours for their gateway until then")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot %s %s: %w", what, t.link.Name, err)
}
