package hostlink

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// undoTime bounds what is taken back after the caller's context has ended.
const undoTime = 10 * time.Second

// Ensure makes the link, or brings the one that is there to what is asked: device,
// addresses, and how guests are reached by it. Where the uplink's own stack has an
// address in the same prefix, the host's routes stay as they are: Guests get a
// route each, and what is sent from the link's address goes by the link. Nothing
// is left when it fails: a new link has gone, one that was there is as it was.
// vmnetd.ErrBusy: the uplink, the name, the MAC or an address is taken.
func (h *Host) Ensure(ctx context.Context, spec Spec) (Link, error) {
	spec = spec.plain()
	if err := spec.check(); err != nil {
		return Link{}, err
	}
	lower, err := h.conn.LinkByIndex(ctx, spec.Lower)
	if err != nil {
		return Link{}, err
	}
	old, err := h.snapshot(ctx, spec.Network)
	if err != nil {
		return Link{}, err
	}
	link, err := h.ensure(ctx, spec, lower)
	if err == nil {
		return link, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if old == nil {
		return Link{}, errors.Join(err, h.remove(ctx, spec.Network))
	}
	return Link{}, errors.Join(err, h.restore(ctx, *old))
}

func (h *Host) ensure(ctx context.Context, spec Spec, lower rtnl.Link) (Link, error) {
	dev, err := h.device(ctx, spec, lower)
	if err != nil {
		return Link{}, err
	}
	connected, err := h.connected(ctx, dev.Index)
	if err != nil {
		return Link{}, err
	}
	claimed, err := h.believed(ctx, spec)
	if err != nil {
		return Link{}, err
	}
	spec.Guests = slices.Concat(spec.Guests, claimed)
	wanted := want(spec, connected)
	if err := h.ready(ctx, dev, lower, spec); err != nil {
		return Link{}, err
	}
	if err := h.bring(ctx, dev.Index, spec.Network, wanted); err != nil {
		return Link{}, err
	}
	return h.verified(ctx, spec, wanted)
}

// device is the link itself: the one that is there where it is of the right kind
// on the right device, and otherwise a new one.
func (h *Host) device(ctx context.Context, spec Spec, lower rtnl.Link) (rtnl.Link, error) {
	name := Ifname(spec.Network)
	there, err := h.conn.LinkByName(ctx, name)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return h.make(ctx, spec, lower)
	}
	if err != nil {
		return rtnl.Link{}, err
	}
	network, ours := networkOf(there)
	switch {
	case !ours || there.Name != name:
		return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrBusy, "the name %s is taken by a device that is not ours", name).WithNext("see  ip -d link show " + name)
	case network != "" && same(spec, there):
		return there, nil
	}
	if err := h.delete(ctx, there.Index); err != nil {
		return rtnl.Link{}, err
	}
	return h.make(ctx, spec, lower)
}

// same says whether a link can be brought to a spec without being made anew.
func same(spec Spec, there rtnl.Link) bool {
	if there.Kind != string(spec.Kind) || !there.LowerHere || there.Lower != spec.Lower {
		return false
	}
	mode, flag := kinds[spec.Kind].read(there)
	return mode == spec.Mode && flag == spec.Flag
}

// make makes the device, down and marked.
func (h *Host) make(ctx context.Context, spec Spec, lower rtnl.Link) (rtnl.Link, error) {
	if err := h.agrees(ctx, spec, lower); err != nil {
		return rtnl.Link{}, err
	}
	k := kinds[spec.Kind]
	link := rtnl.NewLink{Name: Ifname(spec.Network), Kind: string(spec.Kind), Lower: spec.Lower, Data: k.data(spec.Mode, spec.Flag)}
	if k.ownMAC {
		link.MAC = spec.MAC
	}
	if err := h.conn.Create(ctx, link); err != nil {
		return rtnl.Link{}, h.whyNotCreated(ctx, spec, lower, err)
	}
	made, err := h.conn.LinkByName(ctx, link.Name)
	if err != nil {
		return rtnl.Link{}, err
	}
	err = h.conn.Set(ctx, rtnl.Change{Index: made.Index, Attrs: []rtnl.Attr{rtnl.Alias(aliasPrefix + spec.Network)}})
	if err != nil {
		return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot mark %s as ours: %w", link.Name, err)
	}
	return made, nil
}

// ready gives the device its MAC, its MTU and its settings, and sets it up. Where
// it has them nothing is sent: each message makes news of the link, and news make
// somebody look again.
func (h *Host) ready(ctx context.Context, dev, lower rtnl.Link, spec Spec) error {
	var attrs []rtnl.Attr
	if !dev.ARPOfItsOwn {
		attrs = append(attrs, rtnl.ARPOfItsOwn())
	}
	if dev.MTU != lower.MTU { // the kernel takes it down with the lower device's, and leaves it there
		attrs = append(attrs, rtnl.MTU(lower.MTU))
	}
	if kinds[spec.Kind].ownMAC && !bytes.Equal(dev.MAC, spec.MAC) {
		attrs = append(attrs, rtnl.MAC(spec.MAC))
	}
	if attrs != nil {
		if err := h.conn.Set(ctx, rtnl.Change{Index: dev.Index, Attrs: attrs}); err != nil {
			return h.whyNotReady(ctx, dev, spec, err)
		}
	}
	if err := h.setIPv6(dev.Name, has6(spec.IPs)); err != nil {
		return err
	}
	if dev.Up {
		return nil
	}
	if err := h.conn.SetUp(ctx, dev.Index, true); err != nil {
		return h.whyNotReady(ctx, dev, spec, err)
	}
	return nil
}

// verified reads everything back.
func (h *Host) verified(ctx context.Context, spec Spec, wanted state) (Link, error) {
	dev, err := h.conn.LinkByName(ctx, Ifname(spec.Network))
	if err != nil {
		return Link{}, err
	}
	now, err := h.have(ctx, dev.Index, spec.Network)
	if err != nil {
		return Link{}, err
	}
	mac := !kinds[spec.Kind].ownMAC || bytes.Equal(dev.MAC, spec.MAC)
	if !dev.Up || !mac || !same(spec, dev) || len(minus(wanted.addrs, now.addrs))+len(minus(wanted.rules, now.rules)) > 0 {
		return Link{}, vmnetd.Errorf(vmnetd.ErrFailed, "the kernel made %s otherwise than asked", dev.Name).WithNext("see  ip -d addr show " + dev.Name)
	}
	return linkOf(dev, spec.Network, now.addrs), nil
}

func (h *Host) delete(ctx context.Context, index int) error {
	err := h.conn.Delete(ctx, index)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
