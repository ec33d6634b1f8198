package teaming

import (
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestVMRepro(t *testing.T) {
	l := newLab(t)
	l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
	l.add(t, Port{Name: "p0", Prio: ptr(10)})
	l.add(t, Port{Name: "p1", Prio: ptr(5)})
	t.Log("start again:", l.Start(t.Context(), l.team, Config{Runner: Runner{Name: ActiveBackup}}, false))
	t.Log("multi-line:", l.SetPortConfig(t.Context(), l.team, "p0", "{\n \"prio\": 11\n}"))
	t.Log(l.PortConfig(t.Context(), l.team, "p0"))
	t.Log("escaped:", l.SetPortConfig(t.Context(), l.team, "p0", `{"prio": 11, "link_watch": {"name": "\u0065thtool"}}`))
	// sticky live: p1 is made sticky while it carries, then p0 comes back
	c := Config{Runner: Runner{Name: ActiveBackup}, Ports: []Port{{Name: "p0", Prio: ptr(10)}, {Name: "p1", Prio: ptr(5), Sticky: ptr(true)}}}
	l.out.SetDown(t, "far-p0")
	eventually(t, "p1 active", func() bool { s, _ := l.Get(t.Context(), l.team, "runner.active_port"); return strings.TrimSpace(s) == "p1" })
	t.Log("sticky:", l.SetPort(t.Context(), l.team, c, "p1"))
	eventually(t, "p1 active", func() bool { s, _ := l.Get(t.Context(), l.team, "runner.active_port"); return strings.TrimSpace(s) == "p1" })
	l.out.SetUp(t, "far-p0")
	l.ns.WaitRunning(t, "p0")
	eventually(t, "p0 is up", func() bool { s, err := l.State(t.Context(), l.team); return err == nil && s.Ports[0].Link })
	s, err := l.State(t.Context(), l.team)
	t.Logf("%+v %v", s, err)
	active, err := l.Get(t.Context(), l.team, "runner.active_port")
	t.Logf("active %q %v, want p1 which is sticky", active, err)
	_ = testkit.Patience
}

func TestVMReproLACP(t *testing.T) {
	l := newLab(t)
	l.start(t, Config{Runner: Runner{Name: LACP}})
	l.add(t, Port{Name: "p0", LACPPrio: ptr(10)})
	c := Config{Runner: Runner{Name: LACP}, Ports: []Port{{Name: "p0", LACPPrio: ptr(20), LACPKey: ptr(4)}}}
	t.Log(l.SetPort(t.Context(), l.team, c, "p0"))
	text, err := l.StateText(t.Context(), l.team)
	t.Log(text, err)
}

// the answer's mode
func TestVMReproMode(t *testing.T) {
	l := newLab(t)
	l.follow(t)
	l.start(t, Config{Runner: Runner{Name: ActiveBackup}})
	team := l.ns.Link(t, l.team).Index
	l.Notice(team, l.team)
	eventually(t, "known", func() bool { return l.Known(team) })
	t.Log(l.Restart(t.Context(), l.team, Config{Runner: Runner{Name: RoundRobin}}))
	l.Notice(team, l.team)
	l.add(t, Port{Name: "p0"})
	p0 := l.ns.Link(t, "p0").Index
	eventually(t, "it sends", func() bool { return l.Sends(team, p0) })
}

func TestVMReproDefaults(t *testing.T) {
	for _, r := range Runners() {
		l := newLab(t)
		c := Config{Runner: Runner{Name: r}, Ports: []Port{{Name: "p0"}, {Name: "p1"}}}
		l.start(t, Config{Runner: Runner{Name: r}})
		for _, p := range c.Ports {
			l.add(t, p)
		}
		l.is(t, c)
		text, _ := l.ConfigText(t.Context(), l.team, true)
		st, _ := l.StateText(t.Context(), l.team)
		t.Log(r, text, st)
	}
}
