package teaming

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestWhatTeamdWritesToTheWrongPortIsPassedOver(t *testing.T) {
	c, _, err := Parse([]byte(`{"runner": {"name": "activebackup"}, "ports": {
		"eno1": {"prio": 5, "7": {"link_watch": {"name": "ethtool"}}, "8": {"x": {"link_watch": {"name": "ethtool"}}}},
		"eno1.7": {}, "eno1.8.x": {}, "eno2.7": {}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Port{{Name: "eno1", Prio: ptr(5)}, {Name: "eno1.7"}, {Name: "eno1.8.x"}, {Name: "eno2.7"}}
	if diff := cmp.Diff(want, c.Ports); diff != "" {
		t.Error(diff)
	}
	// Of a port that is not there it is a key that nobody knows.
	if _, _, err := Parse([]byte(`{"ports": {"eno1": {"7": {}}, "eno1.8": {}}}`)); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("a key 7: %v", err)
	}
}

func TestVMAPortNamedLikeAKeyOfAnotherIsReadAndChanged(t *testing.T) {
	l := newLab(t)
	const dotted = "p0.7"
	testkit.NewVeth(t, l.ns, dotted, l.out, "far-dotted")
	l.ns.SetDown(t, dotted)
	l.start(t, Config{Runner: Runner{Name: ActiveBackup}, HWAddr: "02:00:00:00:00:01"})
	ports := []Port{{Name: "p0", Prio: ptr(5)}, {Name: dotted}}
	for _, p := range ports {
		l.add(t, p)
	}
	if text, err := l.ConfigText(t.Context(), l.team, true); err != nil {
		t.Error(err)
	} else {
		t.Log(text)
	}
	want := Config{Runner: Runner{Name: ActiveBackup}, Ports: ports}
	l.is(t, want)
	want.Ports[0].Prio, want.Ports[0].Sticky = ptr(7), ptr(true)
	if err := l.SetPort(t.Context(), l.team, want, "p0"); err != nil {
		t.Fatal(err)
	}
	l.is(t, want)
	s, err := l.State(t.Context(), l.team)
	if err != nil || len(s.Ports) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, p := range s.Ports {
		if p.Name == "p0" && (p.Prio != 7 || !p.Sticky) || p.Name == dotted && p.Prio != 0 {
			t.Errorf("%+v", p)
		}
	}
	if err := l.PortRemove(t.Context(), l.team, dotted); err != nil {
		t.Fatal(err)
	}
	l.is(t, Config{Runner: want.Runner, Ports: want.Ports[:1]})
}
