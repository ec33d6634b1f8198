package hostlink

import (
	"context"
	"errors"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Remove removes a network's link with all that Ensure made; one that is not there
// is fine.
func (h *Host) Remove(ctx context.Context, network string) error {
	if err := h.remove(ctx, network); err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot remove this host's link to %s: %w", vmnetd.Printable(network), err).WithNext("try again")
	}
	return nil
}

// remove: routes go with the device, rules do not.
func (h *Host) remove(ctx context.Context, network string) error {
	there, err := h.conn.LinkByName(ctx, Ifname(network))
	if err != nil && !errors.Is(err, vmnetd.ErrNotFound) {
		return err
	}
	if _, ours := networkOf(there); err == nil && ours {
		if err := h.delete(ctx, there.Index); err != nil {
			return err
		}
	}
	rules, err := h.rules(ctx, network)
	return errors.Join(err, h.take(ctx, 0, state{rules: rules}))
}

// Ours is every link of ours. It fails where links come and go too fast to see all
// of them.
func (h *Host) Ours(ctx context.Context) ([]Link, error) {
	links, err := h.conn.Links(ctx)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot list the devices: %w", err).WithNext("try again")
	}
	var ours []Link
	for _, l := range links {
		network, ok := networkOf(l)
		if !ok || network == "" {
			continue
		}
		addrs, err := h.conn.AddrsOf(ctx, l.Index)
		if err != nil {
			return nil, err
		}
		ours = append(ours, linkOf(l, network, addrs))
	}
	return ours, nil
}

func linkOf(l rtnl.Link, network string, addrs []rtnl.Addr) Link {
	mode, _ := kinds[vmnetd.Kind(l.Kind)].read(l)
	out := Link{
		Network: network, Ifname: l.Name, Ifindex: l.Index, Lower: l.Lower,
		Kind: vmnetd.Kind(l.Kind), Mode: mode, MAC: l.MAC, Up: l.Up,
	}
	for _, a := range addrs {
		out.IPs = append(out.IPs, a.Prefix)
	}
	return out
}
