package teaming

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func TestAnErrorInALinkWatchIsPlacedInTheWholeFile(t *testing.T) {
	for text, says := range map[string]string{
		"{\n\n\"link_watch\": {\"name\": 7}}": "3:24: ",
		"{\"ports\": {\"eno7\": {\n \"link_watch\": [{\"name\": \"ethtool\"},\n  {\"name\": \"arp_ping\",\n   \"interval\": \"7\"}]}}}": "4:18: ",
		"{\"ports\": {\n \"link_watch\": {},\n \"eno1\": {\"link_watch\"\n:\n 7}}}":                                                     "5:2: ",
		"{\"link_watch\": {\n \"name\": \"ethtool\"\n \"delay_up\": 1}}":                                                                "3:2: ",
		"{\"link_watch\": {\"bogus\": 1}}":                                                                                              `unknown key "bogus"`,
		"{\"runner\": {\"name\": \"lacp\"}}\n}":                                                                                         "2:1: ",
		"":                                                                                                                              "unexpected end",
	} {
		_, _, err := Parse([]byte(text))
		if !errors.Is(err, vmnetd.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s\n%v, want %q", text, err, says)
		}
	}
}

func TestWhatTeamdsExamplesWriteIsRead(t *testing.T) {
	c, device, err := Parse([]byte(`{"device": "team0", "debug_level": 1, "runner": {"name": "loadbalance", "tx_balancer": {"name": "basic", "interval": 9}},
		"link_watch": [{"name": "ethtool"}], "ports": {"eno2": {}, "eno1": {"prio": -10}}}`))
	if err != nil || device != "team0" {
		t.Fatal(device, err)
	}
	want := Config{
		Runner:    Runner{Name: LoadBalance, TxBalancer: &TxBalancer{Name: "basic", BalancingInterval: ptr(9)}},
		LinkWatch: []LinkWatch{{Name: "ethtool"}}, Ports: []Port{{Name: "eno1", Prio: ptr(-10)}, {Name: "eno2"}},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	c, device, err = Parse([]byte(`{}`))
	if err != nil || device != "" || c.Runner.Name != RoundRobin {
		t.Errorf("an empty one is of runner %q, device %q, %v", c.Runner.Name, device, err)
	}
}

func TestAPortIsAlwaysWrittenWithItsPriority(t *testing.T) {
	for want, p := range map[string]Port{
		`{"prio":0}`: {Name: "eno1"},
		`{"prio":-3,"sticky":false,"queue_id":0,"link_watch":{"name":"ethtool"}}`: {Prio: ptr(-3), Sticky: ptr(false), QueueID: ptr(0), LinkWatch: []LinkWatch{{Name: "ethtool"}}},
		`{"prio":0,"lacp_prio":1,"lacp_key":2,"link_watch":[{"name":"ethtool"},{"name":"nsna_ping","target_host":"fe80::1"}]}`: {
			LACPPrio: ptr(1), LACPKey: ptr(2), LinkWatch: []LinkWatch{{Name: "ethtool"}, {Name: "nsna_ping", TargetHost: "fe80::1"}},
		},
	} {
		if got := p.JSON(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
