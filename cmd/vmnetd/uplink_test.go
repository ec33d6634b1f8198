package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

// silentHost is the host of three guests on a team under an anchor, whose
// second port has lost its carrier.
func silentHost() []vmnetd.UplinkState {
	at := testNow.Add(-9*time.Hour - 46*time.Minute - 53*time.Second) // 02:13:07
	return []vmnetd.UplinkState{
		{Name: "wan", Kind: "anchor", Ifname: "wan", Ifindex: 9, State: "up", Path: "team0 > eno1", Ports: []string{"team0"}, MTU: 1500, Guests: 3, Since: at, Last: "failover",
			Announced: &vmnetd.Announcement{At: at, Guests: 3, Of: 3, TookUs: 4100, Why: "failover eno2 -> eno1"}, Bond: &vmnetd.BondState{Mode: "active-backup", ActivePort: "team0"}},
		{Name: "team0", Kind: "team", Ifname: "team0", Ifindex: 8, State: "degraded", Path: "eno1", Ports: []string{"eno1", "eno2"}, MTU: 1500, Since: at, Last: "eno2 lost",
			Team: &vmnetd.TeamState{Runner: "activebackup", ActivePort: "eno1", Controller: "running", Ours: true, PID: 731, Ports: []vmnetd.TeamPort{
				{Name: "eno1", Link: true, Speed: 10000, Duplex: "full", Prio: 100, QueueID: -1, Watches: []vmnetd.TeamWatch{{Name: "ethtool", Up: true}}},
				{Name: "eno2", Prio: 10, Sticky: true, QueueID: -1, DownCount: 2, Watches: []vmnetd.TeamWatch{{Name: "ethtool", Down: 2}}},
			}}},
	}
}

func TestALiveConversionSaysThatTheFileIsStillToBeChanged(t *testing.T) {
	f := &fake{converted: vmnetd.Conversion{From: "team0", To: "bond", Config: "- {name: bond0}", Anchor: "wan", Applied: &vmnetd.Applied{ID: "x", Changed: true, Done: []string{"make bond bond0"}}}}
	got := do(t, f, "convert", "team2bond", "team0", "--live")
	if got.code != 0 || !strings.Contains(got.out, "in place of team0, under wan too") || !strings.Contains(got.out, "make bond bond0") {
		t.Errorf("%+v", got)
	}
}

func TestAFileOfTeamdIsShownAsAnUplinkWithoutADaemon(t *testing.T) {
	file := filepath.Join(t.TempDir(), "team7.conf")
	for text, want := range map[string]result{
		`{"runner": {"name": "lacp"}, "ports": {"eno1": {}}}`: {out: "- {name: team7, team: {runner: {name: lacp}, ports: [{name: eno1}]}}"},
		`{"runner": {"name": "spray"}}`:                       {code: 2, err: file + `: runner.name: teamd has no runner "spray"`},
		"{\n {":                                               {code: 2, err: file + ":2:2: "},
		`{"x": "` + strings.Repeat("x", teamdLimit) + `"}`:    {code: 2, err: "larger than 1 MiB"},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := &fake{}
		got := do(t, f, "convert", "teamd", file)
		if got.code != want.code || !strings.Contains(got.out, want.out) || !strings.Contains(got.err, want.err) || f.calls != nil {
			t.Errorf("%.60s: %+v, asked %v", text, got, f.calls)
		}
	}
	if got := do(t, &fake{}, "convert", "teamd", file+".no"); got.code != 2 || !strings.Contains(got.err, "no such file") {
		t.Errorf("no file: %+v", got)
	}
	if got := do(t, &fake{}, "convert", "teamd"); got.code != 2 {
		t.Errorf("no name: %+v", got)
	}
}

func TestStatusShowsPathsGuestsAndTheLastFailover(t *testing.T) {
	t.Setenv("TZ", "UTC")
	s := vmnetd.Status{Host: "kvm17", Version: "0.3.1", Since: testNow.Add(-12 * 24 * time.Hour), Applied: time.Date(2026, 11, 20, 14, 2, 0, 0, time.UTC), Uplinks: silentHost()}
	got := do(t, &fake{status: s}, "status")
	want := `kvm17  vmnetd 0.3.1, up 12 d; applied 2026-11-20 14:02 and confirmed

UPLINK  KIND    STATE     PATH           MTU  GUESTS  LAST CHANGE
wan     anchor  up        team0 > eno1  1500       3  02:13:07 failover
team0   team    degraded  eno1 (1 of 2) 1500       -  02:13:07 eno2 lost

no VM has a NIC of ours; to attach one:  vmnetd attach VM

last failover 02:13:07: eno2 -> eno1, 3 of 3 guests announced in 4 ms
`
	want = strings.ReplaceAll(want, "PATH           MTU", "PATH            MTU")
	want = strings.ReplaceAll(want, "eno1  1500", "eno1   1500")
	want = strings.ReplaceAll(want, "of 2) 1500", "of 2)  1500")
	if diff := cmp.Diff(want, got.out); diff != "" {
		t.Error(diff)
	}
}

func TestStatusSaysWhatWaitsAndWhatWasNeverApplied(t *testing.T) {
	t.Setenv("TZ", "UTC")
	for want, s := range map[string]vmnetd.Status{
		"; nothing applied yet: vmnetd uplink plan\n":                            {Never: true, Accepted: testNow},
		"; applied, undone at 12:01:00 unless you type  vmnetd uplink confirm\n": {Never: true, Pending: &vmnetd.Applied{Until: testNow.Add(time.Minute)}},
		"; applied 2026-11-22 12:00 and confirmed\n":                             {Applied: testNow, Accepted: testNow},
		"; vmnetd.yaml accepted 2026-11-22 12:00\n":                              {Config: "vmnetd.yaml", Accepted: testNow},
		"; no configuration was accepted yet\n":                                  {},
	} {
		if got := do(t, &fake{status: s}, "status"); !strings.Contains(got.out, want) {
			t.Errorf("want %q in\n%s", want, got.out)
		}
	}
}

func TestWhatSomebodyAskedForIsShownUntilItIsUndone(t *testing.T) {
	t.Setenv("TZ", "UTC")
	all := silentHost()
	all[0].Pinned, all[1].HeldUntil, all[1].Drained = "team0", testNow.Add(time.Hour), []string{"eno2"}
	all[1].Drift = []string{"port eno3 is not declared"}
	want := []string{
		"! wan: moved to team0 by hand; end it with  vmnetd uplink move wan --auto\n",
		"! team0: held until 13:00:00: nothing is repaired; end it with  vmnetd uplink release team0\n",
		"! team0: drained: eno2; end it with  vmnetd uplink undrain eno2\n",
		"! team0: differs from what was applied: port eno3 is not declared\n",
		"! team0: put right by  vmnetd uplink apply team0\n",
	}
	for _, args := range [][]string{{"status"}, {"uplink", "list"}} {
		got := do(t, &fake{status: vmnetd.Status{Uplinks: all}, uplinks: all}, args...)
		for _, line := range want {
			if !strings.Contains(got.out, line) {
				t.Errorf("%v: %q is not in\n%s", args, line, got.out)
			}
		}
	}
}

func TestEachVerbAsksForWhatItSays(t *testing.T) {
	t.Setenv("TZ", "UTC")
	for line, want := range map[string]struct{ asked, said string }{
		"uplink confirm":                                {`Confirm ""`, "confirmed"},
		"uplink confirm a1":                             {`Confirm "a1"`, "confirmed"},
		"uplink rollback":                               {`Rollback ""`, "undone"},
		"uplink move wan --to bond0":                    {`Move wan "bond0"`, "wan is on bond0 until it is moved again"},
		"uplink move wan --auto":                        {`Move wan ""`, "wan chooses by itself again"},
		"uplink drain eno1":                             {`SetDrain "" eno1 true`, "eno1 is kept off"},
		"uplink undrain eno1 --uplink team0":            {`SetDrain "team0" eno1 false`, "eno1 may carry traffic again"},
		"uplink hold team0 --for 1h":                    {"SetHold team0 2026-11-22T13:00:00Z", "team0 is held until 13:00:00"},
		"uplink release team0":                          {"SetHold team0 0001-01-01T00:00:00Z", "team0 is looked after again"},
		"uplink plan team0 wan":                         {`Plan ["team0" "wan"]`, nothingToDo},
		"uplink apply team0 --no-confirm":               {"Apply {ConfirmWithin:0s NoConfirm:true Force:false Uplinks:[team0]}", nothingToDo},
		"uplink apply --confirm-within 90s --force":     {"Apply {ConfirmWithin:1m30s NoConfirm:false Force:true Uplinks:[]}", nothingToDo},
		"team config team0":                             {"Team team0 {Op:config Port: Item: Value: Temporary:false}", "true"},
		"team config team0 --actual":                    {"Team team0 {Op:config-actual Port: Item: Value: Temporary:false}", "true"},
		"team port-present team0 eno1":                  {"Team team0 {Op:port-present Port:eno1 Item: Value: Temporary:false}", "eno1 is a port of team0"},
		"team port-config team0 eno1":                   {"Team team0 {Op:port-config Port:eno1 Item: Value: Temporary:false}", "true"},
		"team port-config team0 e --set {} --temporary": {"Team team0 {Op:set-port-config Port:e Item: Value:{} Temporary:true}", "e of team0 has that configuration until"},
		"team get team0 setup.pid":                      {"Team team0 {Op:get Port: Item:setup.pid Value: Temporary:false}", "true"},
		"team set team0 a.b 1 --temporary":              {"Team team0 {Op:set Port: Item:a.b Value:1 Temporary:true}", "a.b of team0 is 1 until  vmnetd uplink apply team0"},
		"team port-add team0 eno3 --temporary":          {"Team team0 {Op:port-add Port:eno3 Item: Value: Temporary:true}", "eno3 is a port of team0 until"},
		"team port-remove team0 eno3 --temporary":       {"Team team0 {Op:port-remove Port:eno3 Item: Value: Temporary:true}", "eno3 is no longer a port of team0 until"},
		"convert team2bond team0":                       {"Convert team0 bond live=false", "as a"},
		"convert bond2team bond0 --live":                {"Convert bond0 team live=true", "as a"},
	} {
		f := &fake{answer: "true"}
		got := do(t, f, strings.Fields(line)...)
		if got.code != 0 || len(f.calls) != 1 || f.calls[0] != want.asked || !strings.Contains(got.out, want.said) {
			t.Errorf("%s: asked %v\n%+v\nwant %s", line, f.calls, got, want)
		}
		f = &fake{answer: "true"}
		if got := do(t, f, append(strings.Fields(line), "--json")...); got.code != 0 || !json.Valid([]byte(got.out)) || got.err != "" {
			t.Errorf("%s --json: %+v", line, got)
		}
	}
}

func TestMistakesWithUplinksAreUsageAndAskNobody(t *testing.T) {
	f := &fake{}
	for _, line := range []string{
		"uplink move wan", "uplink move wan --to a --auto", "uplink move", "uplink drain", "uplink hold team0", "uplink hold team0 --for x",
		"uplink apply --no-confirm --confirm-within 5m", "uplink apply --confirm-within 5ms", "uplink apply --confirm-within x",
		"team set team0 a b", "team port-add team0 e", "team port-remove team0 e", "team port-config team0 e --set {}", "team get team0", "uplink lst", "team stat x", "bond bogus",
		"convert team0", "convert", "uplink confirm a b",
	} {
		got := do(t, f, strings.Fields(line)...)
		if line == "convert" { // alone it shows its commands
			continue
		}
		if got.code != 2 || !strings.Contains(got.err, "\nnext: ") {
			t.Errorf("%s: %+v", line, got)
		}
	}
	if f.calls != nil {
		t.Errorf("the daemon was asked: %v", f.calls)
	}
}

func TestAPortThatIsNoneAndAnUplinkThatIsNoneAreNotFound(t *testing.T) {
	f := &fake{answer: "false", uplinks: silentHost()}
	for line, want := range map[string]string{
		"team port-present team0 eno9": "eno9 is no port of team0",
		"uplink show tea0":             `there is no uplink "tea0": did you mean team0?`,
		"team state wan":               "wan is no team but of kind anchor",
		"bond state team0":             "team0 is no bond but of kind team",
		"team state nothing":           `there is no uplink "nothing"`,
	} {
		if got := do(t, f, strings.Fields(line)...); got.code != 4 || !strings.Contains(got.err, want) || !strings.Contains(got.err, "\nnext: ") {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestUplinkListOfAKindHasThatKindOnly(t *testing.T) {
	f := &fake{uplinks: silentHost()}
	for args, want := range map[string]string{"uplink list": "wan team0", "team list": "team0", "bond list": "wan"} {
		var list []vmnetd.UplinkState
		if err := json.Unmarshal([]byte(do(t, f, append(strings.Fields(args), "--json")...).out), &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, u := range list {
			names = append(names, u.Name)
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%s: %v", args, names)
		}
	}
	if got := do(t, &fake{}, "team", "list"); got.out != "no team is declared; see  man 5 vmnetd.yaml\n" {
		t.Errorf("%+v", got)
	}
}

// terminal is a command's output and input on a terminal whose clock the test
// turns.
type terminal struct {
	*app
	out, err bytes.Buffer
	keys     *io.PipeWriter
	now      time.Time
	passed   chan time.Time
	waits    chan time.Duration
}

func newTerminal(t *testing.T, f *fake) *terminal {
	t.Helper()
	t.Setenv("TZ", "UTC")
	in, keys := io.Pipe()
	term := &terminal{keys: keys, now: testNow, passed: make(chan time.Time), waits: make(chan time.Duration)}
	term.app = testApp(f, &term.out, &term.err)
	term.io.in, term.io.width, term.io.answers = in, 80, true
	term.app.now = func() time.Time { return term.now }
	term.after = func(d time.Duration) <-chan time.Time { term.waits <- d; return term.passed }
	t.Cleanup(func() { keys.Close() })
	return term
}

// within is the apply of a plan that waits for a minute.
func within() *fake {
	return &fake{
		plan:    vmnetd.Plan{From: "/etc/vmnetd", Changes: []vmnetd.PlanChange{{Op: "+", Name: "team0", Text: "team, activebackup"}}},
		applied: vmnetd.Applied{ID: "a7", Changed: true, Until: testNow.Add(time.Minute), Done: []string{"team0 made", "eno1 is a port of team0"}},
	}
}

func TestEnterKeepsAnApply(t *testing.T) {
	f := within()
	term := newTerminal(t, f)
	ended := make(chan int, 1)
	go func() { ended <- term.run(t.Context(), []string{"uplink", "apply"}) }()
	if d := <-term.waits; d != time.Second {
		t.Errorf("it waits %v", d)
	}
	term.now = term.now.Add(1500 * time.Millisecond)
	term.passed <- term.now
	if d := <-term.waits; d != 500*time.Millisecond {
		t.Errorf("then it waits %v, to be in step again", d)
	}
	if _, err := term.keys.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit %d: %s", code, term.err.String())
	}
	want := `from /etc/vmnetd, against what runs now

+ team0  team, activebackup

undo     step by step; a timer undoes it even if vmnetd dies

  team0 made
  eno1 is a port of team0
` + "\rkeep? press ENTER within 60 s, otherwise it is undone \rkeep? press ENTER within 59 s, otherwise it is undone confirmed: it stays\n"
	if diff := cmp.Diff(want, term.out.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"Plan []", "Apply {ConfirmWithin:0s NoConfirm:false Force:false Uplinks:[]}", `Confirm "a7"`}, f.calls); diff != "" {
		t.Error(diff)
	}
}
