package filter

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
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

func TestVMNothingHostileLeavesAnIpvtap(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	g := ipvtap(t, l)
	l.set(t, g.strict())
	for _, k := range tricks() {
		expectDropped(t, l, g, k)
	}
	for _, name := range []string{"IPv4", "UDP", "ping", "ARP reply", "IPv6", "IPv6 of link-local", "DHCP renewal"} {
		if !l.tells(t, g, honest()[name])[0] {
			t.Errorf("%s was not heard", name)
		}
	}
}
