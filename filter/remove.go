package filter

import (
	"slices"

	"github.com/mdlayher/netlink"
)

// removeAtOnce bounds the devices of one transaction, whose message has to fit
// into the socket's buffer.
const removeAtOnce = 256

// remove deletes the chains and sets of devices.
func (s *session) remove(ifnames []string) error {
	for some := range slices.Chunk(ifnames, removeAtOnce) {
		var list []netlink.Message
		for _, name := range some {
			doomed, err := s.doomed(name)
			if err != nil {
				return err
			}
			list = append(list, doomed...)
		}
		if err := s.commit(list); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) doomed(ifname string) ([]netlink.Message, error) {
	c, err := s.chain(ifname)
	if err != nil {
		return nil, err
	}
	sets, err := s.sets(ifname)
	if err != nil {
		return nil, err
	}
	var list []netlink.Message
	if c.there {
		list = append(list, dropChain(ifname))
	}
	return append(list, dropSets(want{}, state{sets: sets})...), nil
}
