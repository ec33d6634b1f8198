package filter

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func (l *lab) lost(t testing.TB, specs []Spec) []string {
	t.Helper()
	lost, err := l.Lost(ctx(), specs)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range lost {
		names = append(names, s.Ifname)
	}
	slices.Sort(names)
	return names
}

// many makes devices of which every other has several MACs and a bandwidth.
func many(t testing.TB, l *lab, n int) []Spec {
	t.Helper()
	specs := crowdSpecs(t, l, n)
	for i := range specs {
		if i%2 == 0 {
			specs[i].MACs = append(slices.Clone(specs[i].MACs), foreignMAC)
			specs[i].Out = Rate{Bits: 1e8}
		}
	}
	return specs
}

func TestManyDevicesThatLostTheirFiltersGetThemBackTogether(t *testing.T) {
	l := newLab(t)
	specs := many(t, l, atOnce+fewDevices)
	if got := l.lost(t, specs); len(got) != len(specs) {
		t.Errorf("before: %d of %d are lost", len(got), len(specs))
	}
	if err := l.SetAll(ctx(), specs); err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		l.holds(t, s, true)
	}
	l.ns.Run(t, "nft", "flush", "ruleset")
	if got := l.lost(t, specs); len(got) != len(specs) {
		t.Errorf("after the flush: %d of %d are lost", len(got), len(specs))
	}
	if err := l.SetAll(ctx(), specs); err != nil {
		t.Fatal(err)
	}
	if got := l.lost(t, specs); len(got) != 0 {
		t.Errorf("lost still: %v", got)
	}
}

func TestOfManyDevicesThoseAreLostThatDifferInAnything(t *testing.T) {
	l := newLab(t)
	specs := many(t, l, 2*fewDevices)
	if err := l.SetAll(ctx(), specs); err != nil {
		t.Fatal(err)
	}
	l.ns.Run(t, "nft", "flush", "chain", "netdev", "vmnetd", "mv1")
	l.ns.Run(t, "nft", "delete", "element", "netdev", "vmnetd", "mv2/ip6", "{ 2001:db8::7 }")
	specs[3].IPs = []netip.Prefix{prefix("192.0.2.9/32")}
	specs[4].Out.Bits = 2e8
	specs[5].Out.Bits = 1e8
	specs[6].Out.Bits = 0
	specs[7] = Spec{Ifname: "mv7", Hook: Egress}
	l.ns.Delete(t, "mv8")
	want := []string{"mv1", "mv2", "mv3", "mv4", "mv5", "mv6", "mv7", "mv8"}
	if got := l.lost(t, specs); !slices.Equal(got, want) {
		t.Errorf("lost: %v, want %v", got, want)
	}
	if err := l.SetAll(ctx(), specs); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("it said %v of the one that has gone", err)
	}
	if got := l.lost(t, specs); !slices.Equal(got, []string{"mv8"}) {
		t.Errorf("lost still: %v", got)
	}
}

func TestAsManyDevicesAsAreSetAtOnceAreOneTransaction(t *testing.T) {
	l := newLab(t)
	specs := crowdSpecs(t, l, atOnce)
	for i := range specs {
		for a := range byte(255) { // as many as are learned of a guest at most
			specs[i].IPs = append(specs[i].IPs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, a, 1}), 32))
		}
	}
	before := nftGeneration(t, l)
	if err := l.SetAll(ctx(), specs); err != nil {
		t.Fatal(err)
	}
	if got := nftGeneration(t, l) - before; got != 1 {
		t.Errorf("there were %d", got)
	}
}

func TestOneDeviceThatCannotBeFilteredHindersNoOther(t *testing.T) {
	l := newLab(t)
	specs := crowdSpecs(t, l, 3)
	for i := range 200 { // more than a rule holds (net/netfilter/nf_tables_api.c, NFT_RULE_MAXEXPRS)
		specs[1].Ethertypes = append(specs[1].Ethertypes, uint16(0x9000+i))
	}
	if err := l.SetAll(ctx(), specs); !errors.Is(err, vmnetd.ErrFailed) {
		t.Errorf("it said %v", err)
	}
	l.holds(t, specs[0], true)
	l.holds(t, specs[2], true)
}
