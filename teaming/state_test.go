package teaming

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func TestStateOfActiveBackupIsEveryWatchsWord(t *testing.T) {
	text, err := os.ReadFile("testdata/activebackup.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	want := vmnetd.TeamState{
		Runner: "activebackup", Controller: Running, PID: 146, ActivePort: "eno2",
		Ports: []vmnetd.TeamPort{ // by ifindex
			{Name: "eno2", Link: true, Speed: 10000, Duplex: "full", QueueID: -1, Watches: []vmnetd.TeamWatch{{Name: "ethtool", Up: true}}, Actor: []string{}, Partner: []string{}},
			{
				Name: "eno1", Speed: 100, Duplex: "half", DownCount: 7, QueueID: -1, Actor: []string{}, Partner: []string{},
				Watches: []vmnetd.TeamWatch{{Name: "ethtool", Up: true, Down: 2}, {Name: "arp_ping", Down: 5}},
			},
		},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

func TestAStateThatCannotBeReadIsAFailure(t *testing.T) {
	for _, text := range []string{"", "{", `{"ports": 7}`} {
		if _, err := ParseState([]byte(text)); !errors.Is(err, vmnetd.ErrFailed) {
			t.Errorf("%q: %v", text, err)
		}
	}
	s, err := ParseState([]byte(`{"setup": {"runner_name": "random", "pid": 3}}`))
	if err != nil || s.Ports == nil || len(s.Ports) != 0 || s.LACP != nil {
		t.Errorf("a team without ports: %+v, %v", s, err)
	}
}

func TestEveryBitOfALACPStateHasItsWord(t *testing.T) {
	all := vmnetd.LACPState(255)
	if len(all) != 8 || vmnetd.LACPState(0) == nil || len(vmnetd.LACPState(0)) != 0 {
		t.Errorf("all: %q, none: %q", all, vmnetd.LACPState(0))
	}
	for bit, word := range all {
		if got := vmnetd.LACPState(1 << bit); !slices.Equal(got, []string{word}) {
			t.Errorf("bit %d: %q, want %q", bit, got, word)
		}
	}
	// What teamd says of a port that has no partner: activity, aggregation, expired.
	if got := strings.Join(vmnetd.LACPState(133), ", "); got != "activity, aggregation, expired" {
		t.Errorf("133: %s", got)
	}
}
