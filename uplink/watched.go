package uplink

import (
	"context"
	"encoding/binary"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Watched describes uplinks that somebody else made, and follows their paths;
// it makes and changes none.
type Watched struct {
	finder *Finder
	links  Links
}

// NewWatched describes what finder finds.
func NewWatched(finder *Finder, links Links) *Watched { return &Watched{finder, links} }

// bondActivePort is IFLA_BOND_ACTIVE_SLAVE (uapi/linux/if_link.h).
const bondActivePort = 2

// Path is how frames of a device reach the outside, from the mirror alone: down
// through VLANs and bonds to the devices that carry.
func (w *Watched) Path(ifindex int) Path {
	const deepest = 8 // the kernel nests no deeper (MAX_NEST_DEV, include/linux/netdevice.h)
	var p Path
	text := w.descend(ifindex, deepest, &p)
	p.Text = text
	return p
}

func (w *Watched) descend(ifindex, depth int, p *Path) string {
	l, ok := w.links.ByIndex(ifindex)
	if !ok || !l.Up || !l.Carrier || depth == 0 {
		return ""
	}
	if l.Kind == "vlan" && l.LowerHere {
		return w.descend(l.Lower, depth-1, p)
	}
	below := w.carrying(l)
	if below == nil {
		p.Egress = append(p.Egress, l.Index)
		return l.Name
	}
	var names []string
	for _, index := range below {
		if name := w.descend(index, depth-1, p); name != "" {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// carrying is the ports that a bond or team sends on: the active one, where the
// kernel says which that is, otherwise all of them; nil for a device without
// ports.
func (w *Watched) carrying(l rtnl.Link) []int {
	if l.Kind != "bond" && l.Kind != "team" {
		return nil
	}
	var active int
	if l.Kind == "bond" {
		rtnl.Each(l.Data, func(attr int, v []byte) {
			if attr == bondActivePort && len(v) == 4 {
				active = int(binary.NativeEndian.Uint32(v))
			}
		})
	}
	if active != 0 {
		return []int{active}
	}
	ports := []int{}
	for _, port := range w.links.All() {
		if port.Master == l.Index {
			ports = append(ports, port.Index)
		}
	}
	return ports
}

// Describe is the uplink as it is now.
func (w *Watched) Describe(ctx context.Context, spec Spec) (vmnetd.UplinkState, error) {
	s, err := w.finder.State(ctx, spec)
	if err != nil {
		return vmnetd.UplinkState{}, err
	}
	u := vmnetd.UplinkState{
		Name: spec.Name, Kind: spec.Kind, Ifname: s.Link.Name, Ifindex: s.Link.Index, MAC: s.Link.MAC.String(), MTU: s.Link.MTU,
		State: stateOf(s), Problem: s.Problem,
	}
	if path := w.Path(s.Link.Index); path.Text != s.Link.Name {
		u.Path = path.Text
	}
	return u, nil
}

func stateOf(s State) string {
	switch {
	case !s.Present:
		return vmnetd.StateAbsent
	case !s.Link.Up:
		return vmnetd.StateDown
	case !s.Link.Carrier:
		return vmnetd.StateNoCarrier
	}
	return vmnetd.StateUp
}

var errNotOurs = vmnetd.Errorf(vmnetd.ErrInvalid, "making and changing uplinks: not in this version").WithNext("set them up with the host's own tools, and declare them external")

// Applied says that nothing ever was.
func (*Watched) Applied() ([]Spec, time.Time, bool) { return nil, time.Time{}, false }

// Plan is refused, as is everything that would change an uplink.
func (*Watched) Plan(context.Context, []Spec, []string) (vmnetd.Plan, error) {
	return vmnetd.Plan{}, errNotOurs
}

// Apply is refused.
func (*Watched) Apply(context.Context, []Spec, vmnetd.ApplyOptions) (vmnetd.Applied, error) {
	return vmnetd.Applied{}, errNotOurs
}

// Confirm is refused.
func (*Watched) Confirm(context.Context, string) error { return errNotOurs }

// Rollback is refused.
func (*Watched) Rollback(context.Context, string) error { return errNotOurs }

// Move is refused.
func (*Watched) Move(context.Context, string, string) error { return errNotOurs }

// SetDrain is refused.
func (*Watched) SetDrain(context.Context, string, string, bool) error { return errNotOurs }

// SetHold is refused.
func (*Watched) SetHold(context.Context, string, time.Time) error { return errNotOurs }

// Team is refused.
func (*Watched) Team(context.Context, Spec, vmnetd.TeamRequest) (string, error) {
	return "", errNotOurs
}

// Convert is refused.
func (*Watched) Convert(context.Context, []Spec, string, string, bool) (vmnetd.Conversion, error) {
	return vmnetd.Conversion{}, errNotOurs
}

// Repair has nothing to repair.
func (*Watched) Repair(context.Context) error { return nil }

// Run waits for ctx: the mirror of links tells of every change.
func (*Watched) Run(ctx context.Context, _ func(int)) error {
	<-ctx.Done()
	return nil
}

// EnsureVLAN is refused.
func (*Watched) EnsureVLAN(_ context.Context, lower rtnl.Link, _ int) (rtnl.Link, error) {
	return lower, errNotOurs
}

// ReleaseVLAN is refused.
func (*Watched) ReleaseVLAN(context.Context, int, int) error { return errNotOurs }

// Doctor has nothing to check.
func (*Watched) Doctor(context.Context) []vmnetd.Check { return nil }
