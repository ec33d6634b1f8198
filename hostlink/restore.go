package hostlink

import (
	"context"
	"errors"

	"github.com/vmnetd/vmnetd"
)

// snapshot is a link before it is changed.
type snapshot struct {
	spec Spec
	has  state
}

// snapshot is a network's link as it is, nil where there is none.
func (h *Host) snapshot(ctx context.Context, network string) (*snapshot, error) {
	there, err := h.conn.LinkByName(ctx, Ifname(network))
	if errors.Is(err, vmnetd.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if marked, ours := networkOf(there); !ours || marked == "" {
		return nil, nil
	}
	has, err := h.have(ctx, there.Index, network)
	if err != nil {
		return nil, err
	}
	kind := vmnetd.Kind(there.Kind)
	mode, flag := kinds[kind].read(there)
	spec := Spec{Network: network, Lower: there.Lower, Kind: kind, Mode: mode, Flag: flag, MAC: there.MAC}
	for _, a := range has.addrs {
		spec.IPs = append(spec.IPs, a.Prefix)
	}
	return &snapshot{spec: spec, has: has}, nil
}

// restore brings a link back to what it was.
func (h *Host) restore(ctx context.Context, old snapshot) error {
	lower, err := h.conn.LinkByIndex(ctx, old.spec.Lower)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return h.remove(ctx, old.spec.Network) // it would have gone with that one
	}
	if err != nil {
		return err
	}
	dev, err := h.device(ctx, old.spec, lower)
	if err != nil {
		return err
	}
	if err := h.ready(ctx, dev, lower, old.spec); err != nil {
		return err
	}
	return h.bring(ctx, dev.Index, old.spec.Network, old.has)
}
