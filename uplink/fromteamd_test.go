package uplink

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestAConfigurationOfTeamdBecomesAnEntry(t *testing.T) {
	for text, want := range map[string]string{
		`{"device": "team7", "runner": {"name": "lacp", "fast_rate": true}, "link_watch": {"name": "ethtool"}, "ports": {"eno2": {}, "eno1": {"lacp_prio": 9}}}`: "- {name: team7, team: {runner: {name: lacp, fast_rate: true}, link_watch: [{name: ethtool}], ports: [{name: eno1, lacp_prio: 9}, {name: eno2}]}}",
		`{"ports": {"eno1": {}}}`: "- {name: rack, team: {runner: {name: roundrobin}, ports: [{name: eno1}]}}",
	} {
		c, err := FromTeamd("/etc/teamd/rack.conf", []byte(text))
		if err != nil || c.Config != want || c.To != vmnetd.UplinkTeam || c.From != "/etc/teamd/rack.conf" {
			t.Errorf("%s\ngives %+v, %v\nwant  %s", text, c, err, want)
		}
	}
}

func TestAConfigurationThatTeamdWouldNotTakeIsRefusedWithItsPlace(t *testing.T) {
	for text, want := range map[string][]string{
		"{\"device\": \"t0\",\n \"runner\": {":                       {"t0.conf:2:12: unexpected end"},
		"{\n  \"runner\": {\"name\": 7}\n}":                          {"t0.conf:2:22: name is a number, and has to be a string"},
		`{"runner": {"name": "spray"}}`:                              {`t0.conf: runner.name: teamd has no runner "spray"`},
		`{"runner": {"name": "lacp"}, "link_watch": {"name": "x"}}`:  {`t0.conf: link_watch[0].name: teamd has no link watch "x"`},
		`{"runner": {"name": "random", "min_ports": 3}, "runer": 1}`: {`t0.conf: `, `unknown key "runer"`},
	} {
		_, err := FromTeamd("t0.conf", []byte(text))
		if !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v\nlacks %s", text, err, w)
			}
		}
	}
}
