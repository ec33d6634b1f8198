package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd/uplink"
)

func TestANetworkThatOnlyAnApplyBringsIsToldSo(t *testing.T) {
	cfg, err := loadRaw([]rawFile{{Path: "/etc/v.yaml", Name: "v.yaml", Content: `uplinks:
- {name: wan, anchor: {over: [eno1]}}
- {name: eno1, nic: {}}
- {name: eno2, nic: {}}
networks:
- {name: lan, uplinks: [wan]}
- {name: both, uplinks: [wan, eno2]}
- {name: away, uplinks: [eno2]}
rules: [{vm: a}]
`}}, &problems{})
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(uplink.Spec) bool { return false }
	want := []string{
		"v.yaml:6: network lan: not on this host yet: its uplink wan is made by  vmnetd uplink apply",
		"v.yaml:7: network both: not on this host yet: its uplink wan is made by  vmnetd uplink apply",
		"v.yaml:8: network away: not on this host: none of its uplinks eno2 is here",
	}
	if diff := cmp.Diff(want, Warnings(cfg, nothing)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	want = want[:1]
	if diff := cmp.Diff(want, Warnings(cfg, func(s uplink.Spec) bool { return s.Name == "eno2" })); diff != "" {
		t.Errorf("with eno2: -want +got\n%s", diff)
	}
}
