package e2e

import (
	"fmt"
	"net/netip"
	"strings"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// shaped is the direction in which the guest's device sends, as config names it:
// a macvtap's guest is behind its sending side.
func (s *speaker) shaped() string {
	if s.att.Mode.Sends(s.att.Kind) == "egress" {
		return "out"
	}
	return "in"
}

// hasRate says why what the device sends does not have that rate, as tc(8) writes
// it; "" for none.
func (s *speaker) hasRate(rate string) error {
	s.b.t.Helper()
	qdiscs := s.b.inside(s.b.host, "tc", "qdisc", "show", "dev", s.att.Ifname)
	if got := strings.Contains(qdiscs, "tbf"); got != (rate != "") || !strings.Contains(qdiscs, "rate "+rate) && rate != "" {
		return fmt.Errorf("%s is to send with %q: %s", s.att.Ifname, rate, qdiscs)
	}
	return nil
}
