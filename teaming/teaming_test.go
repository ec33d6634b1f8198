package teaming

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func ptr[T any](v T) *T { return &v }

// whole is a configuration with everything that a runner and its ports have.
func whole(runner string, ports ...string) Config {
	c := Config{
		Runner: Runner{Name: runner}, LinkWatch: []LinkWatch{{Name: "ethtool", DelayUp: ptr(20), DelayDown: ptr(10)}},
		NotifyPeers: &Burst{Count: ptr(2), Interval: ptr(50)}, McastRejoin: &Burst{Count: ptr(3), Interval: ptr(60)}, HWAddr: "02:00:00:00:00:07",
	}
	switch runner {
	case ActiveBackup:
		c.Runner.HWAddrPolicy = "same_all"
	case LoadBalance:
		c.Runner.TxHash, c.Runner.TxBalancer = []string{"eth", "ipv4"}, &TxBalancer{Name: "basic", BalancingInterval: ptr(70)}
	case LACP:
		c.Runner.Active, c.Runner.FastRate, c.Runner.SysPrio, c.Runner.MinPorts = ptr(true), ptr(true), ptr(7), ptr(1)
		c.Runner.AggSelectPolicy, c.Runner.TxHash = "bandwidth", []string{"l3"}
	}
	for i, name := range ports {
		p := Port{Name: name, QueueID: ptr(i + 1)}
		switch runner {
		case ActiveBackup:
			p.Prio, p.Sticky = ptr(100-i), ptr(i == 0)
		case LACP:
			p.LACPPrio, p.LACPKey = ptr(200+i), ptr(i)
		}
		c.Ports = append(c.Ports, p)
	}
	return c
}

func TestAConfigurationIsReadBackAsItWasWritten(t *testing.T) {
	for _, runner := range Runners() {
		c := whole(runner, "eno1", "eno2")
		c.Ports[0].LinkWatch = []LinkWatch{{Name: "arp_ping", TargetHost: "192.0.2.1", Interval: ptr(100)}, {Name: "nsna_ping", TargetHost: "fe80::1"}}
		if problems := c.Check(); len(problems) > 0 {
			t.Errorf("%s: %+v", runner, problems)
		}
		back, device, err := Parse(c.File("team0"))
		if err != nil || device != "team0" {
			t.Fatalf("%s: %v, device %q", runner, err, device)
		}
		if diff := cmp.Diff(c, back); diff != "" {
			t.Errorf("%s: %s", runner, diff)
		}
	}
}

func TestWhatCannotBeReadIsSaidByLineAndColumn(t *testing.T) {
	for text, says := range map[string]string{
		"{\n \"runner\": {\n  \"name\": 7}}": "3:",
		"{\n \"runner\":\n x}":               "3:",
		`{"bogus": 1}`:                       `unknown key "bogus"`,
	} {
		_, _, err := Parse([]byte(text))
		if !errors.Is(err, vmnetd.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

func TestEveryMistakeIsFound(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"runner.name: teamd has no runner":              func(c *Config) { c.Runner = Runner{Name: "active"} },
		"runner.fast_rate: runner activebackup":         func(c *Config) { c.Runner.FastRate = ptr(true) },
		"runner.hwaddr_policy: hwaddr_policy is one of": func(c *Config) { c.Runner.HWAddrPolicy = "x" },
		"link_watch[0].name: teamd has no link":         func(c *Config) { c.LinkWatch[0] = LinkWatch{Name: "x"} },
		"link_watch[0].interval: link watch":            func(c *Config) { c.LinkWatch[0].Interval = ptr(1) },
		"link_watch[0]: arp_ping has nobody":            func(c *Config) { c.LinkWatch[0] = LinkWatch{Name: "arp_ping"} },
		"link_watch[0].target_host: \"::1\" is":         func(c *Config) { c.LinkWatch[0] = LinkWatch{Name: "arp_ping", TargetHost: "::1"} },
		"hwaddr: \"01:00:00:00:00:00\" is no":           func(c *Config) { c.HWAddr = "01:00:00:00:00:00" },
		"notify_peers.count: count takes 0":             func(c *Config) { c.NotifyPeers.Count = ptr(-1) },
		"ports[1]: port eno1 is named twice":            func(c *Config) { c.Ports[1].Name = "eno1" },
		"ports[0].lacp_prio: lacp_prio is for":          func(c *Config) { c.Ports[0].LACPPrio = ptr(1) },
		"ports[0].queue_id: queue_id takes 0":           func(c *Config) { c.Ports[0].QueueID = ptr(-1) },
	} {
		c := whole(ActiveBackup, "eno1", "eno2")
		change(&c)
		problems := c.Check()
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Key+": "+problems[0].Text, want) {
			t.Errorf("want %q, got %+v", want, problems)
		}
	}
}

func TestOnlyPortsChangeLive(t *testing.T) {
	is := whole(ActiveBackup, "eno1", "eno2")
	for want, change := range map[string]func(c *Config){
		"":                           func(c *Config) { c.HWAddr = "" },
		"runner restart":             func(c *Config) { c.Runner.HWAddrPolicy = "by_active" },
		"link_watch restart":         func(c *Config) { c.LinkWatch = nil },
		"notify_peers restart":       func(c *Config) { c.NotifyPeers.Count = ptr(9) },
		"ports.eno2 live":            func(c *Config) { c.Ports = c.Ports[:1] },
		"ports.eno3 live":            func(c *Config) { c.Ports = append(c.Ports, Port{Name: "eno3"}) },
		"ports.eno1.prio live":       func(c *Config) { c.Ports[0].Prio = ptr(5) },
		"ports.eno1.sticky live":     func(c *Config) { c.Ports[0].Sticky = nil },
		"ports.eno2.queue_id live":   func(c *Config) { c.Ports[1].QueueID = nil },
		"ports.eno2.link_watch live": func(c *Config) { c.Ports[1].LinkWatch = []LinkWatch{{Name: "ethtool", DelayUp: ptr(1)}} },
	} {
		to, _, err := Parse(is.File("team0")) // a copy
		if err != nil {
			t.Fatal(err)
		}
		change(&to)
		var got []string
		for _, c := range Diff(is, to) {
			word := "restart"
			if c.Live {
				word = "live"
			}
			got = append(got, c.Path+" "+word)
		}
		if want == "link_watch restart" && len(got) == 3 { // and of both ports, which have none of their own
			got = got[:1]
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("want %q, got %q", want, got)
		}
	}
}

func TestWhatTeamdAddsIsNoDifference(t *testing.T) {
	asked := Config{Runner: Runner{Name: ActiveBackup}, Ports: []Port{{Name: "eno1"}}}
	dump := `{"device": "t", "mcast_rejoin": {"count": 1}, "notify_peers": {"count": 1}, "ports": {"eno1": {"link_watch": {"name": "ethtool"}}}, "runner": {"name": "activebackup"}}`
	is, _, err := Parse([]byte(dump))
	if err != nil {
		t.Fatal(err)
	}
	if diff := Diff(is, asked); len(diff) > 0 {
		t.Errorf("%+v", diff)
	}
	is, _, err = Parse([]byte(`{"runner": {"name": "lacp", "tx_hash": ["eth", "ipv4", "ipv6"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := Diff(is, Config{Runner: Runner{Name: LACP}}); len(diff) > 0 {
		t.Errorf("%+v", diff)
	}
}

func TestStateOfLACPIsShownInWords(t *testing.T) {
	text, err := os.ReadFile("testdata/lacp.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	want := vmnetd.TeamState{
		Runner: "lacp", Controller: Running, PID: 4711,
		LACP: &vmnetd.TeamLACP{Active: true, FastRate: true, SysPrio: 65535, SelectPolicy: "lacp_prio"},
		Ports: []vmnetd.TeamPort{{
			Name: "eno1", Link: true, Speed: 10000, Duplex: "full", DownCount: 3, Prio: 255, QueueID: -1, Aggregator: 2, Selected: true, LACPState: "current",
			Watches: []vmnetd.TeamWatch{{Name: "ethtool", Up: true, Down: 3}}, PartnerMAC: "02:00:00:00:00:09",
			Actor:   []string{"activity", "short timeout", "aggregation", "synchronization", "collecting", "distributing"},
			Partner: []string{"activity", "aggregation", "synchronization"},
		}},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

func TestATeamdIsThatTeamsOnly(t *testing.T) {
	for args, want := range map[string]bool{
		"teamd -t team0 -U": true, "teamd -t team1": false, "teamd --team-dev=team0": true, "teamd --team-dev team0": true,
		"teamd --team-dev=team1": false, "teamd -f /etc/team0.conf": true,
	} {
		if got := names(strings.Fields(args), "team0"); got != want {
			t.Errorf("%s: %v", args, got)
		}
	}
}

func TestWithoutTeamdNothingRuns(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(Options{}).Version(t.Context())
	if !errors.Is(err, vmnetd.ErrUnsupported) || !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
