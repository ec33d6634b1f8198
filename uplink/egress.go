package uplink

import "slices"

// Path is how frames of a device reach the outside now.
type Path struct {
	Text   string // "team0 > eno1", or "eno3, eno4" where several carry; "" when nothing does
	Egress []int  // ifindexes of the devices at the bottom that carry frames, in order
	Unsure bool   // a team on the way was not heard of yet: more may be known in a moment
}

// Same says whether both lead out by the same devices.
func (p Path) Same(o Path) bool { return slices.Equal(p.Egress, o.Egress) }
