package config

import "github.com/vmnetd/vmnetd"

// checkMTU compares an uplink's MTU with what it stands on: above a larger
// device is room for a smaller one, never the other way round.
func (b *builder) checkMTU(s *standing) {
	if !s.mtu.Given {
		return
	}
	for _, r := range s.under {
		below := b.below(r)
		if narrow := b.narrowest(below); narrow != nil && narrow.mtu.V < s.mtu.V {
			b.addOnce(s.mtu.At, "MTU %d of %s is larger than the %d of %s (%s), on which it stands", s.mtu.V, s.name, narrow.mtu.V, narrow.name, narrow.mtu.At).
				do("lower it to %d, or raise the one below", narrow.mtu.V)
			continue
		}
		if s.sizesPorts() && below != nil && below.mtu.Given && below.mtu.V != s.mtu.V {
			b.warn(below.mtu.At, "MTU %d of %s has no effect: as a port of %s it has the %d of %s", below.mtu.V, below.name, s.name, s.mtu.V, s.name)
		}
	}
}

// sizesPorts: bond and team give their ports their own MTU
// (drivers/net/bonding/bond_main.c, bond_change_mtu; drivers/net/team/team.c,
// team_change_mtu).
func (s *standing) sizesPorts() bool {
	return s.kind == vmnetd.UplinkBond || s.kind == vmnetd.UplinkTeam || s.kind == vmnetd.UplinkAnchor
}

// narrowest is the uplink with the smallest MTU that is declared from s on
// downwards; below one that declares its own nobody looks. nil when none does.
func (b *builder) narrowest(s *standing) *standing {
	if s == nil || s.mtu.Given {
		return s
	}
	if known, ok := b.stack.narrow[s]; ok {
		return known
	}
	b.stack.narrow[s] = nil // a loop ends here
	var least *standing
	for _, r := range s.under {
		if n := b.narrowest(b.below(r)); n != nil && (least == nil || n.mtu.V < least.mtu.V) {
			least = n
		}
	}
	b.stack.narrow[s] = least
	return least
}
