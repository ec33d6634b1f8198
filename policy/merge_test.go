package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func TestGuestKeysMergeLeafByLeaf(t *testing.T) {
	yes, no := true, false
	s := guestSet(Grant{Modes: bridge.Modes, Filter: Filter{RA: &no, RAAt: at("n", 1), Broadcast: 10, BroadcastAt: at("n", 2), Ethertypes: []uint16{1536}},
		Bandwidth: Bandwidth{In: Rate{Bits: 1e9, Burst: 5000}, Out: Rate{Burst: 9}}, InAt: at("n", 3), Port: Port{Isolated: &yes}, MaxIPs: 4})
	s.Defaults = Grant{Filter: Filter{RA: &yes, Spoof: &no, SpoofAt: at("d", 1), Ethertypes: []uint16{2048}}, MaxIPs: 2, Flag: FlagVEPA}
	s.Rules[0].Grant = Grant{Bandwidth: Bandwidth{In: Rate{Bits: 2e9}}, InAt: at("r", 1), Port: Port{Hairpin: &yes}, Extra: Extra{MACs: []string{"02:00:00:00:00:01"}}, ExtraAt: at("r", 2)}
	s.Defaults.Extra = Extra{MACs: []string{"02:00:00:00:00:09"}} // of rules alone
	g := s.merge(&s.Networks[0], &s.Rules[0])
	got := []any{g.filter, g.bandwidth, g.port, g.maxIPs, g.flag, g.extra.MACs,
		g.by["filter.spoof"].String(), g.by["filter.ra"].String(), g.by["filter.broadcast"].String(), g.by["bandwidth.in"].String(), g.by["bandwidth.burst_in"].String(), g.by["extra"].String(), g.by["filter.dhcp_server"].what}
	want := []any{Filtered{DHCPServer: true, Ethertypes: []uint16{1536}, Broadcast: 10}, Bandwidth{In: Rate{Bits: 2e9, Burst: 5000}, Out: Rate{Burst: 9}},
		Ported{Hairpin: true, Isolated: true, Learning: true, BPDUGuard: true}, 4, FlagVEPA, []string{"02:00:00:00:00:01"},
		"the default, d:1", "network lan, n:1", "network lan, n:2", "the rule, r:1", "network lan, n:3", "the rule, r:2", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	d, err := s.Decide(vmnetd.Request{VM: "vm1"}, exampleFacts())
	if err != nil || d.Bandwidth.Out != (Rate{}) {
		t.Errorf("a burst without a rate is kept: %+v, %v", d.Bandwidth, err)
	}
}
