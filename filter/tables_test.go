package filter

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// small has a Host put so many devices into a table.
func (l *lab) small(n int) *lab {
	l.nft.tables.most = n
	return l
}

// placed is the chains of each table of the netdev family.
func placed(t testing.TB, ns *testkit.Netns) map[string][]string {
	t.Helper()
	list, in := map[string][]string{}, ""
	for line := range strings.Lines(ns.Run(t, "nft", "list", "ruleset", "netdev")) {
		w := strings.Fields(line)
		switch {
		case len(w) > 2 && w[0] == "table":
			in = w[2]
			list[in] = []string{}
		case len(w) > 1 && w[0] == "chain":
			list[in] = append(list[in], strings.Trim(w[1], `"`))
		}
	}
	return list
}

func (l *lab) expectPlaced(t testing.TB, want map[string][]string) {
	t.Helper()
	got := placed(t, l.ns)
	same := len(got) == len(want)
	for name, chains := range want {
		slices.Sort(got[name])
		same = same && slices.Equal(got[name], chains)
	}
	if !same {
		t.Fatalf("the tables have %v, want %v", got, want)
	}
}

func (l *lab) remove(t testing.TB, ifnames ...string) {
	t.Helper()
	if err := l.Remove(ctx(), ifnames...); err != nil {
		t.Fatal(err)
	}
}

func TestDevicesSpreadOverTablesThatComeAndGo(t *testing.T) {
	l := newLab(t).small(2)
	specs := crowdSpecs(t, l, 6)
	for _, s := range specs[:5] {
		l.set(t, s)
	}
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv0", "mv1"}, "vmnetd-1": {"mv2", "mv3"}, "vmnetd-2": {"mv4"}})
	l.remove(t, "mv0")
	specs[4].IPs = append(specs[4].IPs, prefix("192.0.2.9/32"))
	l.set(t, specs[4]) // keeps its table
	l.set(t, specs[5])
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv1", "mv5"}, "vmnetd-1": {"mv2", "mv3"}, "vmnetd-2": {"mv4"}})
	l.set(t, Spec{Ifname: "mv4", Hook: Egress})
	l.remove(t, "mv2", "mv3")
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv1", "mv5"}})
	l.remove(t, "mv1", "mv5", "mv4")
	l.expectPlaced(t, map[string][]string{"vmnetd": {}})
}

func TestAnotherHostFindsDevicesInTheirTables(t *testing.T) {
	l := newLab(t)
	specs := crowdSpecs(t, l, 2*perTable+2)
	if err := l.SetAll(ctx(), specs); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"vmnetd": perTable, "vmnetd-1": perTable, "vmnetd-2": 2} {
		if got := placed(t, l.ns)[name]; len(got) != n {
			t.Errorf("%s has %d devices, want %d", name, len(got), n)
		}
	}
	before := nftGeneration(t, l)
	l.Host = openHost(t, l.ns)
	l.holds(t, specs[2*perTable], true)
	if lost := l.lost(t, specs); len(lost) != 0 {
		t.Errorf("lost: %v", lost)
	}
	if names, err := l.Filtered(ctx()); len(names) != len(specs) || err != nil {
		t.Errorf("%d are filtered, %v", len(names), err)
	}
	if _, err := l.Counters(ctx(), specs[2*perTable+1].Ifname); err != nil {
		t.Error(err)
	}
	if err := l.SetAll(ctx(), specs); err != nil || nftGeneration(t, l) != before {
		t.Errorf("what is there was changed, %v", err)
	}
	l.remove(t, specs[2*perTable].Ifname, specs[2*perTable+1].Ifname)
	if _, left := placed(t, l.ns)["vmnetd-2"]; left {
		t.Error("the empty table is left")
	}
}

func TestATableOfAnEarlierBuildIsFull(t *testing.T) {
	l := newLab(t)
	specs := crowdSpecs(t, l, 4)
	if err := l.SetAll(ctx(), specs[:3]); err != nil {
		t.Fatal(err)
	}
	l.Host = openHost(t, l.ns)
	l.small(2)
	if lost := l.lost(t, specs[:3]); len(lost) != 0 {
		t.Errorf("lost: %v", lost)
	}
	l.set(t, specs[3])
	l.set(t, specs[2])
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv0", "mv1", "mv2"}, "vmnetd-1": {"mv3"}})
}

// An earlier build knows one table, and puts a device there that has another.
func TestADeviceInTwoTablesIsLostAndThenInOne(t *testing.T) {
	l := newLab(t).small(1)
	specs := crowdSpecs(t, l, 2)
	l.set(t, specs[0])
	l.set(t, specs[1])
	l.remove(t, "mv0")
	earlier := openHost(t, l.ns)
	earlier.nft.tables.stale.Store(false)
	earlier.nft.tables.learn(nil)
	if err := earlier.Set(ctx(), specs[1]); err != nil {
		t.Fatal(err)
	}
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv1"}, "vmnetd-1": {"mv1"}})
	l.Host = openHost(t, l.ns)
	l.holds(t, specs[1], false)
	if got := l.lost(t, specs[1:]); !slices.Equal(got, []string{"mv1"}) {
		t.Errorf("lost: %v", got)
	}
	l.set(t, specs[1])
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv1"}})
	l.holds(t, specs[1], true)
}

func TestAfterAFlushDevicesAreSpreadAnew(t *testing.T) {
	l := newLab(t).small(2)
	specs := crowdSpecs(t, l, 5)
	if err := l.SetAll(ctx(), specs); err != nil {
		t.Fatal(err)
	}
	l.remove(t, "mv0", "mv1")
	lost := watched(t, l.Host)
	l.ns.Run(t, "nft", "flush", "ruleset")
	<-lost
	if got := l.lost(t, specs); len(got) != 5 {
		t.Errorf("lost: %v", got)
	}
	if err := l.SetAll(ctx(), specs[1:]); err != nil {
		t.Fatal(err)
	}
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv1", "mv2"}, "vmnetd-1": {"mv3", "mv4"}})
}

func TestHarmToAFurtherTableIsSeen(t *testing.T) {
	l := newLab(t).small(1)
	specs := crowdSpecs(t, l, 3)
	if err := l.SetAll(ctx(), specs); err != nil {
		t.Fatal(err)
	}
	lost := watched(t, l.Host)
	l.ns.Run(t, "nft", "add table netdev vmnetd-x; add table netdev vmnetd-01; add table netdev vmnetd-; add table netdev vmnetd--1; add table netdev vmnetd-0")
	l.ns.Run(t, "nft", "delete", "table", "netdev", "vmnetd-1")
	select {
	case <-lost:
	case <-time.After(testkit.Patience):
		t.Fatal("it was not seen")
	}
	if got := l.lost(t, specs); !slices.Equal(got, []string{"mv1"}) {
		t.Errorf("lost: %v", got)
	}
	l.set(t, specs[1])
	if got := l.lost(t, specs); len(got) != 0 {
		t.Errorf("lost still: %v", got)
	}
	l.remove(t, "mv0", "mv1", "mv2")
	l.expectPlaced(t, map[string][]string{"vmnetd": {}, "vmnetd-x": {}, "vmnetd-01": {}, "vmnetd-": {}, "vmnetd--1": {}, "vmnetd-0": {}})
}

// Nobody watches: what is known of a table that has gone is wrong.
func TestWhatIsKnownWronglyIsReadAnew(t *testing.T) {
	l := newLab(t).small(1)
	specs := crowdSpecs(t, l, 4)
	l.set(t, specs[0])
	l.set(t, specs[1])
	other := &lab{Host: openHost(t, l.ns), ns: l.ns}
	other.small(2)
	other.set(t, specs[2]) // into the first
	other.set(t, specs[3]) // beside mv1
	l.remove(t, "mv1")     // which the other knows nothing of
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv0", "mv2"}, "vmnetd-1": {"mv3"}})
	l.remove(t, "mv2", "mv3")
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv0"}})
	other.remove(t, "mv2", "mv3") // have gone, with their table
	if _, err := other.Counters(ctx(), "mv2"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("it said %v", err)
	}
}

func TestHostsOfTwoNamespacesHaveTheirOwnTables(t *testing.T) {
	a, b := newLab(t).small(1), newLab(t).small(1)
	as, bs := crowdSpecs(t, a, 2), crowdSpecs(t, b, 2)
	a.set(t, as[0])
	a.set(t, as[1])
	b.set(t, bs[1])
	b.set(t, bs[0])
	a.remove(t, "mv1", "mv0")
	a.expectPlaced(t, map[string][]string{"vmnetd": {}})
	b.expectPlaced(t, map[string][]string{"vmnetd": {"mv1"}, "vmnetd-1": {"mv0"}})
}

// TestATableWithSomethingInItIsNotDeleted: NLM_F_NONREC is what keeps it.
func TestATableWithSomethingInItIsNotDeleted(t *testing.T) {
	l := newLab(t).small(1)
	specs := crowdSpecs(t, l, 2)
	l.set(t, specs[0])
	l.set(t, specs[1])
	err := l.nft.run(ctx(), func(s *session) error {
		s.tables.size[1] = 0
		return s.commit(s.tables.emptied())
	})
	l.holds(t, specs[1], true)
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("it said %v", err)
	}
}

func TestAFurtherTableGoesWithWhatIsLeftOfADeviceThatHasGone(t *testing.T) {
	l := newLab(t).small(1)
	specs := crowdSpecs(t, l, 2)
	l.set(t, specs[0])
	l.set(t, specs[1])
	l.ns.Delete(t, "mv1")
	l.Host = openHost(t, l.ns) // on Linux 6.1 only the sets are left to know it by
	l.remove(t, "mv1")
	l.expectPlaced(t, map[string][]string{"vmnetd": {"mv0"}})
}
