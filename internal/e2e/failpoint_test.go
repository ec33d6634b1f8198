package e2e

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const uplinkMAC = "02:00:00:00:00:aa"

// failing is a bed with a QEMU and a daemon in which one point is switched on.
// The NIC is a passthru, the mode with the most to take back.
type failing struct {
	*bed
	vm *testkit.QEMU
}

func newFailing(t *testing.T) *failing {
	b := newBed(t, basicConfig)
	mac, _ := net.ParseMAC(uplinkMAC)
	b.host.Set(t, "u0", rtnl.MAC(mac))
	return &failing{bed: b, vm: b.ejectingVM("vm1")}
}

// clean says what is left of an attachment.
func (f *failing) clean() error {
	if list, devices := f.list(), f.devices(); len(list) > 0 || len(devices) > 0 {
		return fmt.Errorf("listed %+v, devices %v", list, devices)
	}
	if mac := f.host.Link(f.t, "u0").MAC.String(); mac != uplinkMAC {
		return fmt.Errorf("the uplink's MAC is %s", mac)
	}
	return f.qemu(0)
}

// works says why the attachment does not stand as it should.
func (f *failing) works() error {
	list := f.list()
	if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Problem != "" || list[0].Link != "up" {
		return fmt.Errorf("listed %+v", list)
	}
	if mac := f.host.Link(f.t, "u0").MAC.String(); mac != list[0].MAC {
		return fmt.Errorf("the uplink's MAC is %s, not the guest's", mac)
	}
	return f.qemu(1)
}

// qemu counts the NICs in QEMU, and its netdevs by asking each NIC for its one.
func (f *failing) qemu(nics int) error {
	raw := f.vm.QMP("query-rx-filter", nil)
	filters := parse[[]struct{ Name string }](f.t, string(raw))
	if len(filters) != nics {
		return fmt.Errorf("QEMU has %d NICs: %s", len(filters), raw)
	}
	text := parse[string](f.t, string(f.vm.QMP("human-monitor-command", map[string]string{"command-line": "info network"})))
	if nics == 0 && text != "" {
		return fmt.Errorf("QEMU has a netdev without a NIC: %s", text)
	}
	return nil
}

var passthru = []string{"vm1", "--network", "whole", "--id", "net0"}

// attachPoints and detachPoints are the points that a passthru's attach and
// detach meet, in their order.
func attachPoints() []failpoint.Point {
	return []failpoint.Point{
		failpoint.AttachLookup, failpoint.AttachDecided, failpoint.StoreWrite, failpoint.StoreWritten, failpoint.AttachStored,
		failpoint.ConvergeMAC, failpoint.TapCreated, failpoint.TapMarked, failpoint.ConvergeDevice, failpoint.HandoverOpened,
		failpoint.HandoverGetfd, failpoint.HandoverNetdev, failpoint.HandoverDevice, failpoint.ConvergeGuarded, failpoint.ConvergeUp, failpoint.ConvergeStored,
		failpoint.AttachReply,
	}
}

func detachPoints() []failpoint.Point {
	return []failpoint.Point{
		failpoint.StoreWrite, failpoint.StoreWritten, failpoint.DetachStored, failpoint.DetachDown, failpoint.DetachUnplug,
		failpoint.DetachNetdev, failpoint.DetachDevice, failpoint.DetachMAC, failpoint.DetachForget,
	}
}

func TestEveryFailpointIsDriven(t *testing.T) {
	driven := map[failpoint.Point]bool{}
	all := append(attachPoints(), detachPoints()...)
	for _, k := range endpointKinds {
		all = append(all, endpointPoints(k)...)
	}
	for _, p := range all {
		driven[p] = true
	}
	for _, p := range slices.Concat(failpoint.Points, failpoint.RoomPoints) {
		if !driven[p] {
			t.Errorf("no test switches %s on", p)
		}
	}
}

func TestAttachThatFailsAtAnyPointLeavesNothing(t *testing.T) {
	for _, p := range attachPoints() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			f := newFailing(t)
			f.start(failpoint.Env + "=" + string(p) + "=1*error")
			if r := f.run(append([]string{"attach"}, passthru...)...); r.code == 0 {
				t.Errorf("the attach ended well: %s", r.out)
			}
			f.eventually("after the failure", 10*time.Second, f.clean)
			f.attach(passthru...)
			f.eventually("attached after all", 10*time.Second, f.works)
			f.stop()
		})
	}
}

func TestDaemonKilledAtAnyPointOfAnAttachCompletesOrUndoesIt(t *testing.T) {
	for _, p := range attachPoints() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			f := newFailing(t)
			f.start(failpoint.Env + "=" + string(p) + "=kill")
			f.run(append([]string{"attach"}, passthru...)...)
			f.killedItself()
			f.start()
			f.eventually("after the restart", 10*time.Second, func() error {
				if f.works() == nil {
					return nil
				}
				return f.clean()
			})
			f.attach(passthru...)
			f.eventually("attached after all", 10*time.Second, f.works)
			f.must(0, "detach", "vm1")
			f.eventually("detached", 10*time.Second, f.clean)
			f.stop()
		})
	}
}

func TestDetachThatFailsAtAnyPointIsCompleted(t *testing.T) {
	for _, p := range detachPoints() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			f := newFailing(t)
			f.start()
			f.attach(passthru...)
			f.stop()
			f.start(failpoint.Env + "=" + string(p) + "=1*error")
			if r := f.run("detach", "vm1"); r.code != 0 { // the wish could not be written down
				f.must(0, "detach", "vm1")
			}
			f.eventually("after the failure", 10*time.Second, f.clean)
			f.stop()
		})
	}
}

func TestDaemonKilledAtAnyPointOfADetachCompletesIt(t *testing.T) {
	for _, p := range detachPoints() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			f := newFailing(t)
			f.start()
			f.attach(passthru...)
			f.stop()
			f.start(failpoint.Env + "=" + string(p) + "=kill")
			f.run("detach", "vm1")
			f.killedItself()
			f.start()
			if p == failpoint.StoreWrite { // nothing of the wish was on disk
				f.eventually("as before", 10*time.Second, f.works)
				f.must(0, "detach", "vm1")
			}
			f.eventually("after the restart", 10*time.Second, f.clean)
			f.stop()
		})
	}
}

// killedItself waits for the daemon's end and checks that it was the failpoint.
func (f *failing) killedItself() {
	f.t.Helper()
	f.ended(10 * time.Second)
	if !f.daemon.signalled(9) {
		f.t.Fatalf("ended otherwise: %v\n%s", f.daemon.err, f.daemon.log)
	}
}
