package teaming

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestADifferenceSaysWhatWasAndWhatIsToBe(t *testing.T) {
	is := Config{Runner: Runner{Name: ActiveBackup}, HWAddr: "02:00:00:00:00:01", Ports: []Port{{Name: "eno1", Prio: ptr(5)}, {Name: "eno2"}}}
	want := Config{
		Runner: Runner{Name: LACP, FastRate: ptr(true)}, HWAddr: "02:00:00:00:00:02", McastRejoin: &Burst{Count: ptr(3)},
		Ports: []Port{{Name: "eno3", LACPKey: ptr(1)}, {Name: "eno1", QueueID: ptr(2)}},
	}
	watch := `"link_watch":{"name":"ethtool"}`
	changes := []Change{
		{Path: "hwaddr", From: `"02:00:00:00:00:01"`, To: `"02:00:00:00:00:02"`},
		{Path: "mcast_rejoin", From: `{"count":1,"interval":0}`, To: `{"count":3,"interval":0}`},
		{Path: "notify_peers", From: `{"count":1,"interval":0}`, To: `{"count":0,"interval":0}`},
		{Path: "runner", From: `{"name":"activebackup"}`, To: `{"name":"lacp","tx_hash":["eth","ipv4","ipv6"],"fast_rate":true}`},
		{Path: "ports.eno2", From: `{"prio":0,` + watch + `}`, Live: true},
		{Path: "ports.eno1.prio", From: "5", To: "0", Port: "eno1", Live: true},
		{Path: "ports.eno1.queue_id", To: "2", Port: "eno1", Live: true},
		{Path: "ports.eno3", To: `{"prio":0,"lacp_key":1,` + watch + `}`, Live: true},
	}
	if diff := cmp.Diff(changes, Diff(is, want)); diff != "" {
		t.Error(diff)
	}
	if left := Diff(want, want); len(left) > 0 {
		t.Errorf("of itself: %+v", left)
	}
}

func TestOnlyWhatTeamdReadsAtTheJoinTakesAPortOut(t *testing.T) {
	watch := []LinkWatch{{Name: "ethtool"}}
	is := Port{Name: "eno1", Prio: ptr(1), LinkWatch: watch}
	for name, c := range map[string]struct {
		want  Port
		takes bool
	}{
		"the priority":            {Port{Prio: ptr(2), LinkWatch: watch}, false},
		"what was so by default":  {Port{Sticky: ptr(false), QueueID: ptr(0), LACPPrio: ptr(255), LACPKey: ptr(0), LinkWatch: watch}, false},
		"sticky":                  {Port{Sticky: ptr(true), LinkWatch: watch}, true},
		"the queue":               {Port{QueueID: ptr(1), LinkWatch: watch}, true},
		"LACP's priority":         {Port{LACPPrio: ptr(1), LinkWatch: watch}, true},
		"LACP's key":              {Port{LACPKey: ptr(1), LinkWatch: watch}, true},
		"the link watch":          {Port{LinkWatch: []LinkWatch{{Name: "ethtool", DelayUp: ptr(1)}}}, true},
		"another kind of watches": {Port{LinkWatch: append(watch, watch...)}, true},
	} {
		if got := rejoins(is, c.want); got != c.takes {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheDriversModeIsTheRunnersButForLACP(t *testing.T) {
	for _, runner := range Runners() {
		want := runner
		if runner == LACP {
			want = LoadBalance
		}
		if got := KernelMode(runner); got != want {
			t.Errorf("%s: %s", runner, got)
		}
		if got := AllPorts(runner); got != (runner != ActiveBackup) {
			t.Errorf("%s sends on all ports: %v", runner, got)
		}
	}
}
