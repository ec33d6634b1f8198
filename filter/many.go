package filter

import (
	"context"
	"errors"
	"slices"

	"github.com/mdlayher/netlink"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// atOnce is how many devices one transaction is for: it is one message, which has
// to fit into the socket's buffer (net/netlink/af_netlink.c, netlink_sendmsg), and
// others have their turn between two.
const atOnce = 64

// SetAll is Set for many devices, in few transactions: each of them has the kernel
// look at its whole table once more (net/netfilter/nf_tables_api.c,
// nft_table_validate). A device that cannot have its filter keeps none of the
// others from theirs; the errors are joined.
func (h *Host) SetAll(ctx context.Context, specs []Spec) error {
	there, links, errs, err := h.present(ctx, specs)
	if err != nil {
		return err
	}
	limited, err := h.limited(ctx)
	if err != nil {
		return err
	}
	var sorted []Spec
	err = h.nft.run(ctx, func(s *session) error {
		sorted = s.tables.byTable(there)
		return nil
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(sorted, atOnce) {
		if h.nft.run(ctx, func(s *session) error { return s.convergeAll(some) }) == nil {
			continue
		}
		for _, spec := range some { // one of them is to blame
			errs = append(errs, h.Set(ctx, spec))
		}
	}
	for i, spec := range there {
		if limited[links[i].Index] || spec.limited() {
			errs = append(errs, h.setBandwidth(ctx, links[i], spec))
		}
	}
	return errors.Join(errs...)
}

// Lost are the devices that do not have their filter and bandwidth as Set left
// them, also those that have gone: Holds of many, by few questions.
func (h *Host) Lost(ctx context.Context, specs []Spec) ([]Spec, error) {
	there, links, _, err := h.present(ctx, specs)
	if err != nil {
		return nil, err
	}
	var holding []bool
	for some := range slices.Chunk(there, atOnce) {
		err := h.nft.run(ctx, func(s *session) error {
			hold, err := s.holding(some)
			if err == nil {
				holding = append(holding, hold...)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	limited, err := h.limited(ctx)
	if err != nil {
		return nil, err
	}
	lost := absent(specs, there)
	for i, spec := range there {
		if holding[i] && (limited[links[i].Index] || spec.limited()) {
			if holding[i], err = h.hasBandwidth(ctx, links[i], spec); err != nil {
				return nil, err
			}
		}
		if !holding[i] {
			lost = append(lost, spec)
		}
	}
	return lost, nil
}

// present are the specs whose device is there, with its link; of each other one
// there is an error.
func (h *Host) present(ctx context.Context, specs []Spec) (there []Spec, links []rtnl.Link, errs []error, err error) {
	all, err := h.conn.Links(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	named := make(map[string]rtnl.Link, len(all))
	for _, l := range all {
		named[l.Name] = l
	}
	for _, s := range specs {
		if err := s.check(); err != nil {
			return nil, nil, nil, err
		}
		link, ok := named[s.Ifname]
		if !ok {
			errs = append(errs, vmnetd.Errorf(vmnetd.ErrNotFound, "no network device is named %s", vmnetd.Printable(s.Ifname)))
			continue
		}
		there, links = append(there, s), append(links, link)
	}
	return there, links, errs, nil
}

// absent are the specs whose device is not among those that are there.
func absent(specs, there []Spec) []Spec {
	known := map[string]bool{}
	for _, s := range there {
		known[s.Ifname] = true
	}
	var left []Spec
	for _, s := range specs {
		if !known[s.Ifname] {
			left = append(left, s)
		}
	}
	return left
}

// convergeAll is converge for many devices, in one transaction.
func (s *session) convergeAll(specs []Spec) error {
	read, err := s.reader(len(specs))
	if err != nil {
		return err
	}
	var list []netlink.Message
	for _, spec := range specs {
		some, err := s.steps(wanted(spec), read)
		if err != nil {
			return err
		}
		list = append(list, some...)
	}
	return s.commit(append(list, s.tables.emptied()...))
}

// holding says of each device whether it has its filter.
func (s *session) holding(specs []Spec) ([]bool, error) {
	read, err := s.reader(len(specs))
	if err != nil {
		return nil, err
	}
	holding := make([]bool, len(specs))
	for i, spec := range specs {
		if holding[i], err = s.holds(spec, read); err != nil {
			return nil, err
		}
	}
	return holding, nil
}

// holds says whether a device has its filter, and that in one table.
func (s *session) holds(spec Spec, read func(table, string) (state, error)) (bool, error) {
	there, err := read(s.tables.home(spec.Ifname), spec.Ifname)
	if err != nil || there.chain.there != spec.Filtered() || len(s.tables.strays(spec.Ifname)) > 0 {
		return false, err
	}
	return there.is(wanted(spec)), nil
}
