package config

import (
	"fmt"

	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

// rawLimits is limits: what the switch port behind an uplink takes.
type rawLimits struct{ macs got[int] }

var limitsKeys = object[rawLimits]{what: "limits", rows: []row[rawLimits]{
	key("macs", func(l *rawLimits) *got[int] { return &l.macs }, codec[got[int]](maxMACs)),
}}

const maxMaxMACs = 1_000_000 // more than any switch remembers

var maxMACs = scalar[int]{shapes: []shape{number}, want: fmt.Sprintf("a number from 1 to %d", maxMaxMACs), read: readWithin("macs", 1, maxMaxMACs)}

// limits notes what is said of the switch, for the uplink and for the choice of
// modes, which takes it from what is declared now, not from what was applied.
func (b *builder) limits(u *rawUplink, spec *uplink.Spec) {
	var l policy.Limits
	if u.limits.macs.Given {
		l.MaxMACs, l.MaxMACsAt = u.limits.macs.V, u.limits.macs.Key.pos()
	}
	if u.hairpin.Given {
		l.NoHairpin, l.HairpinAt = !u.hairpin.V, u.hairpin.Key.pos()
	}
	spec.MaxMACs, spec.NoHairpin = l.MaxMACs, l.NoHairpin
	b.cfg.Policy.Limits[spec.Name] = l
}
