package filter

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Table is the name of our table of the netdev family. Further ones, when it is
// full, are named Table-1 and so on.
const Table = "vmnetd"

// Hooks of the netdev family (uapi/linux/netfilter.h).
const (
	Ingress = "ingress"
	Egress  = "egress"
)

// Host filters devices of one network namespace: the one its connection is bound
// to. It may be used by several goroutines at once.
type Host struct {
	conn *rtnl.Conn
	nft  *nft
	news *news
}

// Open makes a Host, and listens from then on to what Watch will tell. Close it
// when it is no longer needed; filters stay.
func Open(conn *rtnl.Conn) (*Host, error) {
	n, err := openNFT(conn)
	if err != nil {
		return nil, err
	}
	w, err := openNews(conn)
	if err != nil {
		n.close()
		return nil, err
	}
	n.tell(w.ignore)
	return &Host{conn: conn, nft: n, news: w}, nil
}

// Close lets go of what Open opened.
func (h *Host) Close() error {
	h.nft.close()
	return h.news.close()
}

// Set gives a device its filter and bandwidth: what it had of ours before is
// replaced in one transaction, and what did not change keeps its counters. A Spec
// that filters nothing removes the chain. vmnetd.ErrUnsupported: this kernel has
// no such hook, or no action police. vmnetd.ErrNotFound: there is no such device.
func (h *Host) Set(ctx context.Context, spec Spec) error {
	if err := spec.check(); err != nil {
		return err
	}
	link, err := h.conn.LinkByName(ctx, spec.Ifname)
	if err != nil {
		return err
	}
	err = h.nft.run(ctx, func(s *session) error { return s.converge(wanted(spec)) })
	if err != nil {
		return explain(spec, err)
	}
	return h.setBandwidth(ctx, link, spec)
}

// Holds says whether the device has its filter as Set left it.
func (h *Host) Holds(ctx context.Context, spec Spec) (bool, error) {
	if err := spec.check(); err != nil {
		return false, err
	}
	link, err := h.conn.LinkByName(ctx, spec.Ifname)
	if errors.Is(err, vmnetd.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	holds := false
	err = h.nft.run(ctx, func(s *session) error {
		var err error
		holds, err = s.holds(spec, s.read)
		return err
	})
	if err != nil || !holds {
		return false, err
	}
	return h.hasBandwidth(ctx, link, spec)
}

// Remove takes a device's filter away, also of one that has gone. Its bandwidth
// goes with the device.
func (h *Host) Remove(ctx context.Context, ifnames ...string) error {
	return h.nft.run(ctx, func(s *session) error { return s.remove(ifnames) })
}

// Filtered lists the devices that a chain of ours is for, also those that have
// gone: on Linux 6.1 their chain went with them, and only the sets are left.
func (h *Host) Filtered(ctx context.Context) ([]string, error) {
	var names []string
	err := h.nft.run(ctx, func(s *session) error {
		var err error
		names, err = s.devices()
		return err
	})
	return names, err
}

// Counters is what a device's rules have matched since they were made, in their
// order; rules of one name count together. vmnetd.ErrNotFound: it has no filter.
func (h *Host) Counters(ctx context.Context, ifname string) ([]vmnetd.Counter, error) {
	var rules []oldRule
	err := h.nft.run(ctx, func(s *session) error {
		if !s.tables.known(ifname) {
			return nil
		}
		var err error
		rules, err = s.rules(s.tables.home(ifname), ifname)
		return err
	})
	if err == nil && len(rules) == 0 || errors.Is(err, unix.ENOENT) {
		return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "%s has no filter", vmnetd.Printable(ifname))
	}
	if err != nil {
		return nil, err
	}
	return sum(rules), nil
}

func sum(rules []oldRule) []vmnetd.Counter {
	var list []vmnetd.Counter
	place := map[string]int{}
	for _, r := range rules {
		at, known := place[r.name]
		if !known {
			at = len(list)
			place[r.name] = at
			list = append(list, vmnetd.Counter{Rule: r.name, Dropped: r.dropped})
		}
		list[at].Packets += r.packets
		list[at].Bytes += r.bytes
	}
	return list
}
