package uplink

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// askTeamd is how long Describe waits for a teamd; one that was stopped does
// not keep the other uplinks from being described.
const askTeamd = 2 * time.Second

// Described is an uplink as it is now, or why that is not known.
type Described struct {
	State vmnetd.UplinkState
	Err   error
}

// Describe is the uplinks as they are now, in that order, with ports, bond and
// team, what was said of them by hand, and where they differ from what was applied.
// One that is somebody else's is read the same way. The host's devices are listed
// once for all, where any of them can differ; one whose controller does not answer
// holds up the answer by two seconds at most.
func (m *Manager) Describe(ctx context.Context, specs []Spec) []Described {
	is := m.listed(ctx, specs)
	all := make([]Described, len(specs))
	var looks sync.WaitGroup
	for i, spec := range specs {
		looks.Go(func() { all[i].State, all[i].Err = m.describe(ctx, spec, is) })
	}
	looks.Wait()
	return all
}

// listed is the host's devices, which are a thousand on some hosts; nil where none
// of the uplinks was applied, and where they cannot be listed: drift is not known
// then, all the rest is.
func (m *Manager) listed(ctx context.Context, specs []Spec) World {
	applied, _, _ := m.Applied()
	if !slices.ContainsFunc(specs, func(s Spec) bool { return s.Ours() && specNamed(applied, s.Name) }) {
		return nil
	}
	is, err := m.kernel.lookAtLinks(ctx)
	if err != nil {
		return nil
	}
	return is
}

func (m *Manager) describe(ctx context.Context, spec Spec, is World) (vmnetd.UplinkState, error) {
	s, err := m.o.Finder.device(ctx, spec)
	if err != nil {
		return vmnetd.UplinkState{}, err
	}
	applied, _, _ := m.Applied()
	_, o, _ := m.kept()
	u := vmnetd.UplinkState{
		Name: spec.Name, Kind: spec.Kind, Ifname: s.Link.Name, Ifindex: s.Link.Index, MTU: s.Link.MTU,
		State: stateOf(s), Problem: s.Problem, Ports: []string{}, Drift: []string{},
		Drained: append([]string{}, o.Drained[spec.Name]...), Pinned: o.Pinned[spec.Name],
	}
	if o.held(spec.Name, time.Now()) {
		u.HeldUntil = o.Held[spec.Name]
	}
	isApplied := specNamed(applied, spec.Name)
	if !s.Present {
		return m.absent(u, spec, isApplied), nil
	}
	u.MAC = s.Link.MAC.String()
	m.describePorts(ctx, &u, s.Link)
	if path := m.Path(s.Link.Index); path.Text != s.Link.Name && !path.Unsure {
		u.Path = path.Text
	}
	if isApplied && spec.Ours() && is != nil {
		u.Drift = m.drift(ctx, applied, spec, is)
	}
	switch u.State {
	case vmnetd.StateUp:
		if lack := m.lack(spec, u); lack != "" {
			u.State, u.Problem = vmnetd.StateDegraded, cmp.Or(u.Problem, lack)
		}
	case vmnetd.StateNoCarrier:
		u.Problem = cmp.Or(m.cutOff(spec, u), u.Problem)
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

// absent tells an uplink that was never applied from one that is missing.
func (m *Manager) absent(u vmnetd.UplinkState, spec Spec, isApplied bool) vmnetd.UplinkState {
	if made(spec) && !isApplied {
		u.State = vmnetd.StateNotApplied
		u.Problem = fmt.Sprintf("%s is declared and was never applied: vmnetd uplink plan", spec.Name)
	}
	return u
}

// describePorts fills in what the device is made of.
func (m *Manager) describePorts(ctx context.Context, u *vmnetd.UplinkState, l rtnl.Link) {
	ports := m.portsOf(l.Index)
	for _, p := range ports {
		u.Ports = append(u.Ports, p.Name)
	}
	switch l.Kind {
	case kindBond:
		state := bonding.Status(l, m.asked(ctx, ports), m.procBond(l.Name), m.nameOf)
		u.Bond = &state
	case kindTeam:
		ctx, cancel := context.WithTimeout(ctx, askTeamd)
		defer cancel()
		state := m.teamState(ctx, l)
		u.Team = &state
	case kindVLAN:
		if lower, ok := m.o.Links.ByIndex(l.Lower); ok && l.LowerHere {
			u.Ports = append(u.Ports, lower.Name)
		}
	}
}

// portsOf is the ports of a device that no attachment made.
func (m *Manager) portsOf(index int) []rtnl.Link {
	return filter(m.o.Links.Ports(index), func(l rtnl.Link) bool { return !guestPort(l) })
}

// asked is links as the kernel has them now: it tells nobody when the MII status
// or LACP state of a port changes.
func (m *Manager) asked(ctx context.Context, links []rtnl.Link) []rtnl.Link {
	var now []rtnl.Link
	for _, l := range links {
		if fresh, err := m.o.Conn.LinkByIndex(ctx, l.Index); err == nil {
			now = append(now, fresh)
		}
	}
	return now
}

func (m *Manager) nameOf(index int) string {
	l, _ := m.o.Links.ByIndex(index)
	return l.Name
}

// procBond is what the kernel says of a bond nowhere else; it shows the
// namespace of the thread that reads it.
func (m *Manager) procBond(name string) string {
	var text []byte
	_ = m.o.Conn.Do(func() error {
		var err error
		text, err = os.ReadFile(filepath.Join("/proc/net/bonding", name))
		return err // without it, churn is not shown
	})
	return string(text)
}

// lack is what an uplink lacks although it carries traffic; "" for nothing.
func (m *Manager) lack(spec Spec, u vmnetd.UplinkState) string {
	if u.Team != nil && u.Team.Ours {
		switch u.Team.Controller {
		case "gone":
			return fmt.Sprintf("no controller: teamd of %s has died", u.Ifname)
		case "silent":
			return fmt.Sprintf("teamd of %s does not answer: it is stopped or hangs", u.Ifname)
		}
	}
	carry, idle := m.sorted(spec, u)
	switch {
	case len(idle) == 0:
		return ""
	case len(carry) == 1:
		return fmt.Sprintf("%s runs on %s alone: %s", u.Ifname, carry[0], strings.Join(idle, ", "))
	}
	return strings.Join(idle, ", ")
}

// sorted is the configured ports that carry, and of the others why they do not.
// What is under a VLAN is no port of it, and what is external is not configured.
func (m *Manager) sorted(spec Spec, u vmnetd.UplinkState) (carry, idle []string) {
	if spec.Kind == vmnetd.UplinkExternal || spec.Kind == vmnetd.UplinkVLAN {
		return nil, nil
	}
	for _, name := range m.declared(context.Background(), []Spec{spec}).devicesOf(spec.Under()) {
		switch why := m.idle(name, u); why {
		case "":
			carry = append(carry, name)
		default:
			idle = append(idle, why)
		}
	}
	return carry, idle
}

// cutOff is why an uplink has no carrier, by its ports; "" where they do not tell.
func (m *Manager) cutOff(spec Spec, u vmnetd.UplinkState) string {
	carry, why := m.sorted(spec, u)
	if option, least := fewest(spec); len(carry) < least {
		why = append(why, fmt.Sprintf("%s wants %d ports that carry, and %d can", option, least, len(carry)))
	}
	if len(why) == 0 {
		return ""
	}
	return u.Ifname + " has no carrier: " + strings.Join(why, ", ") + "; " + cutOffGuests
}

// fewest is how many ports have to carry for an uplink to do, where more than one
// is asked for, and the option that says so.
func fewest(spec Spec) (option string, ports int) {
	switch {
	case spec.Bond != nil:
		option, ports = "min_links", number(spec.Bond.Options["min_links"])
	case spec.Team != nil && spec.Team.Runner.MinPorts != nil:
		option, ports = "min_ports", *spec.Team.Runner.MinPorts
	}
	if ports < 2 {
		return "", 0
	}
	return option, ports
}

// idle is why a configured port cannot carry, "" when it can. A drained port
// rests because it was told to.
func (m *Manager) idle(name string, u vmnetd.UplinkState) string {
	l, ok := m.o.Links.ByName(name)
	switch {
	case !ok:
		return name + " is not there"
	case l.Master != u.Ifindex:
		return fmt.Sprintf("%s is not a port of %s", name, u.Ifname)
	case slices.Contains(u.Drained, name):
		return name + " is drained"
	case !l.Up:
		return name + " is down"
	case !l.Carrier:
		return name + " has no carrier"
	}
	return m.judged(name, u)
}
