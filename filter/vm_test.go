package filter

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/internal/vhostnet"
)

// Linux 6.1 differs in what counts here: a chain ends with its device, fields do
// not show tags that were taken out, and intervals are other code.
func TestVMTheFilterKeepsItsPromisesOnLinux61(t *testing.T) {
	testkit.Require(t, "vm")
	for name, promise := range map[string]func(*testing.T){
		"hostile": TestNothingHostileLeavesAGuestAndTheRightRuleCountsIt,
		"honest":  TestHonestFramesAllArrive,
		"cut":     TestATruncatedHeaderPassesNoRule,
		"address": TestAnAddressThatComesIsHeardAndCountersStay,
		"same":    TestASetThatChangesNothingSendsNothing,
		"none":    TestASpecThatFiltersNothingRemovesTheChainAndItsSets,
		"gone":    TestWhatIsLeftOfADeviceThatHasGoneIsRemoved,
		"back":    TestADeviceThatComesBackIsFilteredAgain,
		"trunk":   TestATrunkLetsItsVLANsThrough,
		"MACs":    TestSeveralMACsArePinned,
		"harm":    TestWhatSomebodyElseDoesToOurTableIsSeenAndPutRight,
		"ours":    TestOurOwnChangesAndThoseOfOtherTablesAreNoLoss,
		"doctor":  TestTheDoctorRehearsesTheHookAndLeavesNothing,
		"shaper":  TestWhatTheNetdevSendsIsShapedLive,
		"police":  TestAKernelThatCannotPoliceSaysSo,
		"spread":  TestDevicesSpreadOverTablesThatComeAndGo,
		"kept":    TestATableWithSomethingInItIsNotDeleted,
		"left":    TestAFurtherTableGoesWithWhatIsLeftOfADeviceThatHasGone,
		"hook":    TestAHookThatTheKernelDoesNotHaveIsSaidSo,
	} {
		t.Run(name, promise)
	}
}

// The guest of an ipvtap has the uplink's MAC.
func ipvtap(t *testing.T, l *lab) guest {
	l.ns.Set(t, "u0", rtnl.MAC(ownMAC))
	link := l.ns.Create(t, rtnl.NewLink{
		Name: "ipv0", Kind: "ipvtap", Lower: l.ns.Link(t, "u0").Index, Index: 1<<20 + rand.IntN(1<<30),
		Data: []rtnl.Attr{{Type: 1, Value: []byte{0, 0}}}, // IFLA_IPVLAN_MODE l2
	})
	fd, err := unix.Open(fmt.Sprintf("/dev/tap%d", link.Index), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	l.ns.SetUp(t, "ipv0")
	l.ns.WaitRunning(t, "ipv0")
	return queueGuest(t, "ipv0", Egress, fd)
}

// throughIpvtap are honest frames that an ipvtap sends on as they are.
var throughIpvtap = []string{"IPv4", "UDP", "ping", "ARP reply", "IPv6", "IPv6 of link-local", "DHCP renewal"}

func TestVMNothingHostileLeavesAnIpvtap(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	onlyHonest(t, l, ipvtap(t, l), throughIpvtap)
}

func TestVMNothingHostileLeavesByVHostNet(t *testing.T) {
	testkit.Require(t, "vm")
	all := slices.Sorted(maps.Keys(honest()))
	for kind, of := range map[string]struct {
		attach func(*testing.T, *lab) guest
		honest []string
	}{"macvtap": {macvtap, all}, "tap": {tap, all}, "ipvtap": {ipvtap, throughIpvtap}} {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			onlyHonest(t, l, byVHost(t, of.attach(t, l)), of.honest)
		})
	}
}

// byVHost is a guest whose frames vhost-net sends.
func byVHost(t *testing.T, g guest) guest {
	fd, err := unix.Open("/dev/vhost-net", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	p, err := vhostnet.New(fd, g.queue)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	g.send = sendsBy(t, p.Write)
	return g
}

// onlyHonest holds that a guest's hostile frames stay, and those honest ones do not.
func onlyHonest(t *testing.T, l *lab, g guest, names []string) {
	t.Helper()
	l.set(t, g.strict())
	for _, k := range tricks() {
		expectDropped(t, l, g, k)
	}
	for _, name := range names {
		if !l.tells(t, g, honest()[name])[0] {
			t.Errorf("%s was not heard", name)
		}
	}
}
