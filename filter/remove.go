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
			doomed, err := s.steps(want{ifname: name}, s.outline)
			if err != nil {
				return err
			}
			list = append(list, doomed...)
		}
		if err := s.commit(append(list, s.tables.emptied()...)); err != nil {
			return err
		}
	}
	return nil
}
