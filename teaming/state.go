package teaming

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
)

// dump is what of teamd's StateDump is shown (teamd/teamd_state.c and the
// runners' state items).
type dump struct {
	Setup struct {
		Runner string `json:"runner_name"`
		PID    int    `json:"pid"`
	} `json:"setup"`
	Runner struct {
		ActivePort   string `json:"active_port"`
		Active       *bool  `json:"active"`
		FastRate     bool   `json:"fast_rate"`
		SysPrio      int    `json:"sys_prio"`
		SelectPolicy string `json:"select_policy"`
	} `json:"runner"`
	Ports map[string]dumpPort `json:"ports"`
}

type dumpPort struct {
	Info struct {
		Index int `json:"ifindex"`
	} `json:"ifinfo"`
	Link struct {
		Duplex string `json:"duplex"`
		Speed  int    `json:"speed"`
	} `json:"link"`
	Watches struct {
		List map[string]dumpWatch `json:"list"`
		Up   bool                 `json:"up"`
	} `json:"link_watches"`
	Runner struct {
		Prio       int    `json:"prio"`
		State      string `json:"state"`
		Selected   bool   `json:"selected"`
		Aggregator struct {
			ID       int  `json:"id"`
			Selected bool `json:"selected"`
		} `json:"aggregator"`
		Actor   lacpdu `json:"actor_lacpdu_info"`
		Partner lacpdu `json:"partner_lacpdu_info"`
	} `json:"runner"`
}

type dumpWatch struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
	Down int    `json:"down_count"`
}

type lacpdu struct {
	State  int    `json:"state"`
	System string `json:"system"`
}

// ParseState reads a StateDump. Queues are not in it, nor priorities of ports
// other than LACP's; whose teamd it is cannot be.
func ParseState(text []byte) (vmnetd.TeamState, error) {
	var d dump
	if err := json.Unmarshal(text, &d); err != nil {
		return vmnetd.TeamState{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot read what teamd says: %w", err)
	}
	s := vmnetd.TeamState{Runner: d.Setup.Runner, PID: d.Setup.PID, ActivePort: d.Runner.ActivePort, Controller: Running, Ports: []vmnetd.TeamPort{}}
	if d.Runner.Active != nil {
		s.LACP = &vmnetd.TeamLACP{Active: *d.Runner.Active, FastRate: d.Runner.FastRate, SysPrio: d.Runner.SysPrio, SelectPolicy: d.Runner.SelectPolicy}
	}
	for _, name := range slices.SortedFunc(maps.Keys(d.Ports), d.byIndex) {
		s.Ports = append(s.Ports, d.Ports[name].state(name, s.LACP != nil))
	}
	return s, nil
}

func (d dump) byIndex(a, b string) int {
	return cmp.Compare(d.Ports[a].Info.Index, d.Ports[b].Info.Index)
}

func (p dumpPort) state(name string, lacp bool) vmnetd.TeamPort {
	out := vmnetd.TeamPort{
		Name: name, Link: p.Watches.Up, Speed: p.Link.Speed, Duplex: p.Link.Duplex, Prio: p.Runner.Prio, QueueID: -1,
		Watches: []vmnetd.TeamWatch{}, Actor: []string{}, Partner: []string{},
	}
	for _, key := range slices.Sorted(maps.Keys(p.Watches.List)) {
		w := p.Watches.List[key]
		out.Watches = append(out.Watches, vmnetd.TeamWatch(w))
		out.DownCount += w.Down
	}
	if lacp {
		out.Aggregator, out.Selected, out.LACPState = p.Runner.Aggregator.ID, p.Runner.Selected && p.Runner.Aggregator.Selected, p.Runner.State
		out.Actor, out.Partner, out.PartnerMAC = vmnetd.LACPState(p.Runner.Actor.State), vmnetd.LACPState(p.Runner.Partner.State), p.Runner.Partner.System
	}
	return out
}
