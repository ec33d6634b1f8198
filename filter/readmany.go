package filter

import (
	"maps"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// fewDevices is how many devices are asked for by their names alone: of more,
// what is there is listed before.
const fewDevices = 8

// reader reads what the kernel has for so many devices. Rules are asked for chain
// by chain: a dump of a table's walks past those told already each time it goes on
// (net/netfilter/nf_tables_api.c, __nf_tables_dump_rules).
func (s *session) reader(n int) (func(table, string) (state, error), error) {
	if n <= fewDevices {
		return s.read, nil
	}
	l, err := s.listed()
	if err != nil {
		return nil, err
	}
	return func(t table, ifname string) (state, error) { return s.readListed(l, t, ifname) }, nil
}

// listing is our chains and sets.
type listing struct {
	chains map[place]chain
	sets   map[place]bool
}

// readListed is read of a device whose chain and sets are known from a list.
func (s *session) readListed(l listing, t table, ifname string) (state, error) {
	st := state{chain: l.chains[place{t, ifname}], sets: map[string]elements{}}
	var err error
	if st.chain.there {
		if st.rules, err = s.rules(t, ifname); err != nil {
			return state{}, err
		}
	}
	for _, end := range setNames {
		if !l.sets[place{t, ifname + end}] {
			continue
		}
		if st.sets[ifname+end], err = s.elements(t, ifname+end); err != nil {
			return state{}, err
		}
	}
	return st, nil
}

// listed lists our chains and sets, and with them which device is in which table.
// Both dumps are of all tables of the family (nf_tables_dump_chains,
// nf_tables_dump_sets).
func (s *session) listed() (listing, error) {
	l := listing{map[place]chain{}, map[place]bool{}}
	msgs, err := s.ask(message(unix.NFT_MSG_GETCHAIN, netlink.Dump))
	if err != nil {
		return listing{}, err
	}
	for _, m := range msgs {
		if p, ours := nameIn(m, unix.NFTA_CHAIN_NAME); ours {
			if l.chains[p], err = chainIn(m); err != nil {
				return listing{}, err
			}
		}
	}
	if msgs, err = s.ask(message(unix.NFT_MSG_GETSET, netlink.Dump)); err != nil {
		return listing{}, err
	}
	for _, m := range msgs {
		if p, ours := nameIn(m, unix.NFTA_SET_NAME); ours {
			l.sets[p] = true
		}
	}
	s.tables.learn(l.devices())
	return l, nil
}

// devices are the devices that a chain or a set is named after.
func (l listing) devices() map[place]bool {
	list := map[place]bool{}
	for p := range l.chains {
		list[p] = true
	}
	for p := range l.sets {
		name, _, _ := strings.Cut(p.name, "/")
		list[place{p.table, name}] = true
	}
	return list
}

// devices are those of all our tables.
func (s *session) devices() ([]string, error) {
	if _, err := s.listed(); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(s.tables.of)), nil
}
