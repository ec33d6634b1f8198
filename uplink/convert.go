package uplink

import (
	"context"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Convert shows an uplink as the other kind, "bond" or "team". live does it:
// under an anchor the new uplink is made beside the old one, the ports go over
// one by one, and guests keep their devices. The anchor's transaction is that of
// every apply, with its checkpoint and its confirmation.
func (m *Manager) Convert(ctx context.Context, all []Spec, name, to string, live bool) (vmnetd.Conversion, error) {
	old, ok := Declared{Specs: all}.spec(name)
	if !ok {
		return vmnetd.Conversion{}, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %s", vmnetd.Printable(name)).WithNext("vmnetd uplink list")
	}
	fresh, differs, err := converted(old, to)
	if err != nil {
		return vmnetd.Conversion{}, err
	}
	fresh.Name = otherName(all, name, to)
	fresh.Device = fresh.Name
	c := vmnetd.Conversion{From: name, To: to, Config: entry(fresh), Differs: differs, Anchor: anchorOver(all, name)}
	if !live {
		return c, nil
	}
	if c.Anchor == "" {
		return c, vmnetd.Errorf(vmnetd.ErrBusy, "no anchor stands over %s: what stands on it would go with it", name).
			WithNext("write the entry that  vmnetd convert " + verbOf(to) + " " + name + "  prints, and apply it while no guest is on " + name)
	}
	a, _, _ := m.kept()
	specs, err := exchanged(a.Specs, old, fresh, c.Anchor)
	if err != nil {
		return c, err
	}
	done, err := m.Apply(ctx, specs, vmnetd.ApplyOptions{})
	c.Applied = &done
	return c, err
}

func verbOf(to string) string {
	if to == vmnetd.UplinkBond {
		return "team2bond"
	}
	return "bond2team"
}

// converted is the equivalent of an uplink, and what has none.
func converted(s Spec, to string) (Spec, []string, error) {
	fresh := s
	fresh.Kind, fresh.Bond, fresh.Team, fresh.At = to, nil, nil, ""
	var differs []string
	switch {
	case to == vmnetd.UplinkBond && s.Team != nil:
		fresh.Bond, differs = teamAsBond(s.Team)
	case to == vmnetd.UplinkTeam && s.Bond != nil:
		fresh.Team, differs = bondAsTeam(s.Bond)
	case to != vmnetd.UplinkBond && to != vmnetd.UplinkTeam:
		return s, nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%s is no kind to convert to: bond or team", vmnetd.Printable(to))
	default:
		return s, nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%s is a %s: only a team becomes a bond, and a bond a team", s.Name, s.Kind)
	}
	return fresh, differs, nil
}

// otherName is how the new uplink is called: both are there for a while. team0
// becomes bond0; where that is taken, it gets a name that is not.
func otherName(all []Spec, name, to string) string {
	from := vmnetd.UplinkTeam
	if to == vmnetd.UplinkTeam {
		from = vmnetd.UplinkBond
	}
	rest, ok := strings.CutPrefix(name, from)
	candidates := []string{to + rest, name[:min(len(name), maxIfname-2)] + to[:1]}
	if !ok {
		candidates = candidates[1:]
	}
	for suffix := 'a'; suffix <= 'z'; suffix++ {
		candidates = append(candidates, name[:min(len(name), maxIfname-2)]+to[:1]+string(suffix))
	}
	for _, c := range candidates {
		if !specNamed(all, c) {
			return c
		}
	}
	return to + "new"
}

func anchorOver(all []Spec, name string) string {
	for _, s := range all {
		if s.Anchor != nil && slices.Contains(s.Anchor.Over, name) {
			return s.Name
		}
	}
	return ""
}

// exchanged is what was applied, with one member of an anchor replaced.
func exchanged(specs []Spec, old, fresh Spec, anchor string) ([]Spec, error) {
	if !specNamed(specs, old.Name) || !specNamed(specs, anchor) {
		return nil, vmnetd.Errorf(vmnetd.ErrBusy, "%s and %s are not both applied yet", old.Name, anchor).WithNext("vmnetd uplink apply")
	}
	out := []Spec{}
	for _, s := range specs {
		switch {
		case s.Name == old.Name:
			s = fresh
		case s.Name == anchor:
			over := slices.Clone(s.Anchor.Over)
			over[slices.Index(over, old.Name)] = fresh.Name
			s.Anchor = &Anchor{Over: over}
		case slices.Contains(s.Under(), old.Name):
			return nil, vmnetd.Errorf(vmnetd.ErrBusy, "%s stands on %s too, beside its anchor %s, and would go with it", s.Name, old.Name, anchor).WithNext("put it on " + anchor)
		}
		out = append(out, s)
	}
	return out, nil
}
