package filter

import (
	"errors"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// fewDevices is how many devices are asked for by their names alone: of more,
// what is there is listed before.
const fewDevices = 8

// readMany is what the kernel has for devices, by name. Rules are asked for chain
// by chain: a dump of a table's walks past those told already each time it goes on
// (net/netfilter/nf_tables_api.c, __nf_tables_dump_rules).
func (s *session) readMany(specs []Spec) (map[string]state, error) {
	read := s.read
	if len(specs) > fewDevices {
		chains, sets, err := s.listed()
		if err != nil {
			return nil, err
		}
		read = func(ifname string) (state, error) { return s.readListed(chains[ifname], sets, ifname) }
	}
	states := make(map[string]state, len(specs))
	for _, spec := range specs {
		st, err := read(spec.Ifname)
		if err != nil {
			return nil, err
		}
		states[spec.Ifname] = st
	}
	return states, nil
}

// readListed is read of a device whose chain and sets are known from a list.
func (s *session) readListed(c chain, sets map[string]bool, ifname string) (state, error) {
	st := state{chain: c, sets: map[string]elements{}}
	var err error
	if c.there {
		if st.rules, err = s.rules(ifname); err != nil {
			return state{}, err
		}
	}
	for _, end := range setNames {
		if !sets[ifname+end] {
			continue
		}
		if st.sets[ifname+end], err = s.elements(ifname + end); err != nil {
			return state{}, err
		}
	}
	return st, nil
}

// listed is our chains and the names of our sets.
func (s *session) listed() (map[string]chain, map[string]bool, error) {
	chains, sets := map[string]chain{}, map[string]bool{}
	msgs, err := s.ask(message(unix.NFT_MSG_GETCHAIN, netlink.Dump))
	if err != nil {
		return nil, nil, err
	}
	for _, m := range msgs {
		if name := nameIn(m, unix.NFTA_CHAIN_NAME); name != "" {
			if chains[name], err = chainIn(m); err != nil {
				return nil, nil, err
			}
		}
	}
	msgs, err = s.ask(message(unix.NFT_MSG_GETSET, netlink.Dump, text(unix.NFTA_SET_TABLE, Table)))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, nil, err
	}
	for _, m := range msgs {
		sets[nameIn(m, unix.NFTA_SET_NAME)] = true
	}
	return chains, sets, nil
}
