package uplink

import (
	"context"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// teamState is a team as its teamd tells it; of one that does not answer, what
// the kernel knows.
func (m *Manager) teamState(ctx context.Context, l rtnl.Link) vmnetd.TeamState {
	applied, _, _ := m.Applied()
	state, err := m.o.Teams.State(ctx, l.Name)
	if err != nil {
		state = m.teamOfKernel(l)
		state.Controller = controller(err)
	}
	state.Ours = isTeam(applied, l.Name)
	for i, p := range state.Ports {
		_, _, state.Ports[i].QueueID = m.o.Teams.Port(l.Index, m.indexOf(p.Name))
	}
	return state
}

// isTeam says that a team was applied by that name, and so that its teamd is
// ours.
func isTeam(specs []Spec, name string) bool {
	return slices.ContainsFunc(specs, func(s Spec) bool { return s.Kind == vmnetd.UplinkTeam && s.Name == name })
}

func (m *Manager) indexOf(name string) int {
	l, _ := m.o.Links.ByName(name)
	return l.Index
}

func (m *Manager) teamOfKernel(l rtnl.Link) vmnetd.TeamState {
	state := vmnetd.TeamState{Ports: []vmnetd.TeamPort{}}
	for _, p := range m.portsOf(l.Index) {
		active, usable, _ := m.o.Teams.Port(l.Index, p.Index)
		if active {
			state.ActivePort = p.Name
		}
		state.Ports = append(state.Ports, vmnetd.TeamPort{
			Name: p.Name, Link: p.Up && p.Carrier && usable, Watches: []vmnetd.TeamWatch{}, Actor: []string{}, Partner: []string{},
		})
	}
	return state
}

// followTeams hears of the team driver and of every teamd that ends; one of ours
// is taken over then.
func (m *Manager) followTeams(ctx context.Context, changed func(ifindex int)) error {
	m.noticeTeams()
	return m.o.Teams.Run(ctx, func(ifindex int) {
		changed(ifindex)
		if m.concerns(ifindex) {
			m.wake(m.again)
		}
	}, func(team string) {
		changed(m.indexOf(team))
		m.wake(m.again)
	})
}

func (m *Manager) noticeTeams() {
	for _, l := range m.o.Links.All() {
		m.noticeTeam(l)
	}
}

func (m *Manager) noticeTeam(l rtnl.Link) {
	if l.Kind == kindTeam {
		m.o.Teams.Notice(l.Index, l.Name)
	}
}

// takeOver starts a teamd for each team of ours that has none: the device and what
// stands on it stay, and so do its ports unless they have to be free meanwhile (see
// needsFreePorts).
func (m *Manager) takeOver(ctx context.Context, is, want World, held map[string]bool) (taken bool, errs []error) {
	for _, name := range want.names() {
		if want[name].Uplink != vmnetd.UplinkTeam || is[name].Controller != teaming.Gone || held[name] {
			continue
		}
		began := time.Now()
		l, err := m.o.Conn.LinkByName(ctx, name)
		if err == nil {
			err = m.kernel.restartTeam(ctx, l, Step{Verb: verbRestart, Device: name, Team: want[name].Team})
		}
		if err != nil {
			errs = append(errs, failed(Step{Verb: verbRestart, Device: name}, err))
			continue
		}
		taken = true
		m.noticeTeam(l)
		m.tell(vmnetd.Event{
			Time: time.Now(), Event: "repaired", Uplink: name,
			Text: "teamd of " + name + " had ended and is taken over again, in " + time.Since(began).Round(time.Millisecond).String(),
		})
	}
	return taken, errs
}
