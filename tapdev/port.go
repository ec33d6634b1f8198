package tapdev

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

const maxVLAN = 4094

func (p Port) check() error {
	invalid := func(format string, args ...any) error {
		return vmnetd.Errorf(vmnetd.ErrInvalid, format, args...)
	}
	if p.PVID < 0 || p.PVID > maxVLAN {
		return invalid("VLAN %d is not one of 1 to %d", p.PVID, maxVLAN)
	}
	for _, r := range p.Trunk {
		switch {
		case r.From < 1 || r.To > maxVLAN || r.From > r.To:
			return invalid("VLANs %d to %d are no part of 1 to %d", r.From, r.To, maxVLAN)
		case r.From <= p.PVID && p.PVID <= r.To:
			return invalid("VLAN %d cannot be tagged and untagged", p.PVID)
		}
	}
	return nil
}

// tagged says that something about VLANs is asked for.
func (p Port) tagged() bool { return p.PVID != 0 || len(p.Trunk) > 0 }

func (p Port) flags() rtnl.BridgePort {
	return rtnl.BridgePort{Hairpin: p.Hairpin, Isolated: p.Isolated, Learning: p.Learning, BPDUGuard: p.BPDUGuard}
}

// vlans is what a port has to be in: what is asked for, and otherwise what the
// bridge gives every port.
func (p Port) vlans(bridge rtnl.Link) []rtnl.PortVLAN {
	filtering, pvid := bridge.BridgeVLANs()
	if !filtering {
		return nil
	}
	if p.tagged() {
		pvid = p.PVID
	}
	var vlans []rtnl.PortVLAN
	if pvid != 0 {
		vlans = append(vlans, rtnl.PortVLAN{ID: pvid, PVID: true, Untagged: true})
	}
	for _, r := range p.Trunk {
		for id := r.From; id <= r.To; id++ {
			vlans = append(vlans, rtnl.PortVLAN{ID: id})
		}
	}
	slices.SortFunc(vlans, func(a, b rtnl.PortVLAN) int { return a.ID - b.ID })
	return slices.Compact(vlans)
}

// fits says why a device cannot be a port of its lower one, or not as it is asked
// for.
func (p Port) fits(what string, bridge rtnl.Link) error {
	if bridge.Kind != "bridge" {
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "cannot make %s on %s: that is no bridge (%s)", what, bridge.Name, kindName(bridge.Kind)).
			WithNext("use an uplink that is a bridge, or another mode")
	}
	if filtering, _ := bridge.BridgeVLANs(); p.tagged() && !filtering {
		return vmnetd.Errorf(vmnetd.ErrBusy, "cannot make %s on %s: the bridge does not tell VLANs apart", what, bridge.Name).
			WithNext(fmt.Sprintf("ip link set %s type bridge vlan_filtering 1, or give its uplink  bridge: {vlan_filtering: true}", bridge.Name))
	}
	return nil
}

// join makes a device a port of its bridge as it is asked for, and changes nothing
// where it is. One that somebody took out while it was up is down until it stands
// there as it has to.
func (h *Host) join(ctx context.Context, p Port, link, bridge rtnl.Link) error {
	if link.Master == bridge.Index {
		return h.setPort(ctx, p, link, bridge)
	}
	if link.Up {
		if err := h.conn.SetUp(ctx, link.Index, false); err != nil {
			return err
		}
	}
	err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.Master(bridge.Index)}})
	if err != nil {
		return fmt.Errorf("cannot make it a port of %s: %w", bridge.Name, err)
	}
	up := link.Up
	if link, err = h.conn.LinkByIndex(ctx, link.Index); err != nil {
		return err
	}
	if err := h.setPort(ctx, p, link, bridge); err != nil || !up {
		return err
	}
	return h.conn.SetUp(ctx, link.Index, true)
}

// keepMTU gives a bridge its MTU again where a port has pulled it down: unless it was
// told one, it has the smallest of its ports' (net/bridge/br_if.c,
// br_mtu_auto_adjust). One guest's is none of the host's own or of the next guest's.
func (h *Host) keepMTU(ctx context.Context, before rtnl.Link) error {
	now, err := h.conn.LinkByIndex(ctx, before.Index)
	if err != nil || now.MTU >= before.MTU {
		return err
	}
	if err := h.conn.Set(ctx, rtnl.Change{Index: before.Index, Attrs: []rtnl.Attr{rtnl.MTU(before.MTU)}}); err != nil {
		return fmt.Errorf("cannot give %s its MTU %d again: %w", before.Name, before.MTU, err)
	}
	return nil
}

// setPort changes a port under a running guest: VLANs are added before others go.
func (h *Host) setPort(ctx context.Context, p Port, link, bridge rtnl.Link) error {
	if now, _ := link.BridgePort(); now != p.flags() {
		flags := []rtnl.Attr{rtnl.PortInfo("bridge", p.flags().Attrs())}
		if err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: flags}); err != nil {
			return fmt.Errorf("cannot change how it stands on %s: %w", bridge.Name, err)
		}
	}
	return h.joinVLANs(ctx, p, link, bridge)
}

func (h *Host) joinVLANs(ctx context.Context, p Port, link, bridge rtnl.Link) error {
	now, err := h.portVLANs(ctx, link, bridge)
	if err != nil {
		return err
	}
	want := p.vlans(bridge)
	wanted, there := map[int]bool{}, map[rtnl.PortVLAN]bool{}
	for _, v := range want {
		wanted[v.ID] = true
	}
	for _, v := range now {
		there[v] = true
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(v rtnl.PortVLAN) bool { return there[v] })
	foreign := slices.DeleteFunc(now, func(v rtnl.PortVLAN) bool { return wanted[v.ID] })
	if err := h.conn.AddPortVLANs(ctx, link.Index, missing); err != nil {
		return fmt.Errorf("cannot put it into its VLANs on %s: %w", bridge.Name, err)
	}
	if err := h.conn.DelPortVLANs(ctx, link.Index, foreign); err != nil {
		return fmt.Errorf("cannot take it out of other VLANs on %s: %w", bridge.Name, err)
	}
	return nil
}

// portVLANs is nil where the bridge does not tell VLANs apart: what its ports are
// in then means nothing, and a kernel without VLAN filtering cannot even be asked.
func (h *Host) portVLANs(ctx context.Context, link, bridge rtnl.Link) ([]rtnl.PortVLAN, error) {
	if filtering, _ := bridge.BridgeVLANs(); !filtering {
		return nil, nil
	}
	vlans, err := h.conn.PortVLANs(ctx, link.Index)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for its VLANs on %s: %w", bridge.Name, err)
	}
	return vlans, nil
}

// verifyPort says what of a port is not as it has to be.
func (h *Host) verifyPort(ctx context.Context, p Port, link, bridge rtnl.Link) error {
	now, port := link.BridgePort()
	if !port || link.Master != bridge.Index {
		return fmt.Errorf("it is no port of %s", bridge.Name)
	}
	if now != p.flags() {
		return fmt.Errorf("as a port it is %+v, not %+v", now, p.flags())
	}
	vlans, err := h.portVLANs(ctx, link, bridge)
	if err != nil {
		return err
	}
	if want := p.vlans(bridge); !slices.Equal(vlans, want) {
		return fmt.Errorf("it is in VLANs %v, not %v", vlans, want)
	}
	return nil
}
