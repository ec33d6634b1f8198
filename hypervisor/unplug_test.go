package hypervisor

import (
	"errors"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// ejects is a machine whose ports let go at once, without a guest: with native
// PCIe hotplug, a slot that was never powered on needs nobody's consent
// (hw/pci/pcie.c, pcie_cap_slot_unplug_request_cb).
var ejects = testkit.QEMUOptions{RootPorts: 2, Args: []string{"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"}}

func TestUnplugTakesTheNICItsNetdevAndItsQueues(t *testing.T) {
	q, dir := newQMP(t, Limits{Eject: 2 * longEnough}) // who misses the event waits for that
	machine := ejects
	machine.QMPDir = dir
	guest := testkit.StartQEMU(t, machine)
	vm := find(t, q, guest.Name)
	for _, queues := range []int{1, 4} {
		if _, err := q.Plug(t.Context(), vm, nic(t, "net0", queues)); err != nil {
			t.Fatal(err)
		}
		within(t, longEnough, "Unplug", func() {
			if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
				t.Fatal(err)
			}
		})
		clean(t, guest, "net0")
	}
	if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
		t.Errorf("Unplug of a NIC that is not there: %v", err)
	}
}

func TestFailureAfterDeviceAddIsUndoneWhenTheGuestLetsGo(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	machine := ejects
	machine.QMPDir = dir
	guest := testkit.StartQEMU(t, machine)
	vm := find(t, q, guest.Name)
	q.at(failpoint.HandoverDevice, func() error { return errProvoked })
	if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 2)); !errors.Is(err, errProvoked) || errors.Is(err, ErrEjecting) {
		t.Errorf("Plug = %v", err)
	}
	clean(t, guest, "net0")
}

func TestGuestThatNeverLetsGoIsAskedAgain(t *testing.T) {
	for _, machine := range machines {
		t.Run(machine.Machine, func(t *testing.T) {
			q, dir := newQMP(t, Limits{Eject: hastily.Eject})
			machine := machine
			machine.QMPDir = dir
			guest := testkit.StartQEMU(t, machine)
			vm := find(t, q, guest.Name)
			if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 2)); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time, QEMU says that it is pending
				within(t, longEnough, "Unplug", func() {
					err := q.Unplug(t.Context(), vm, NIC{ID: "net0"})
					if !errors.Is(err, ErrEjecting) || !errors.Is(err, vmnetd.ErrBusy) {
						t.Fatalf("Unplug = %v, want ErrEjecting", err)
					}
				})
			}
			if device, netdevs := inside(t, guest, "net0"); !device || len(netdevs) != 1 {
				t.Errorf("device %v, netdevs %v: the NIC that the guest holds must stay whole", device, netdevs)
			}
			if n := tapsOf(guest.PID); n != 2 {
				t.Errorf("QEMU holds %d queues, want 2", n)
			}
			// A reset lets go of what is pending (softmmu/qdev.c), as a guest
			// that boots at last does.
			guest.QMP("system_reset", nil)
		})
	}
}

func TestUnplugFinishesWhatACrashLeft(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	machine := ejects
	machine.QMPDir = dir
	guest := testkit.StartQEMU(t, machine)
	vm := find(t, q, guest.Name)
	for name, leave := range map[string]func(){
		"descriptors only": func() { leaveHalf(t, q, vm, "net0", 8, false) },
		"a netdev":         func() { leaveHalf(t, q, vm, "net0", 8, true) },
		"both":             func() { leaveHalf(t, q, vm, "net0", 2, true); leaveHalf(t, q, vm, "net0", 2, false) },
		"the guest let go, the netdev stayed": func() {
			if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 2)); err != nil {
				t.Fatal(err)
			}
			q.at(failpoint.DetachNetdev, func() error { return errProvoked })
			if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); !errors.Is(err, errProvoked) {
				t.Fatalf("Unplug = %v", err)
			}
			q.hit = failpoint.Set(nil).Hit
		},
		"asked, not waited for": func() {
			if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 2)); err != nil {
				t.Fatal(err)
			}
			q.at(failpoint.DetachUnplug, func() error { return errProvoked })
			if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); !errors.Is(err, errProvoked) {
				t.Fatalf("Unplug = %v", err)
			}
			q.hit = failpoint.Set(nil).Hit
		},
	} {
		leave()
		if tapsOf(guest.PID) == 0 {
			t.Fatalf("%s: QEMU holds nothing before", name)
		}
		if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
			t.Errorf("%s: Unplug = %v", name, err)
		}
		clean(t, guest, "net0")
	}
}

func TestQEMUKilledWhileUnplugging(t *testing.T) {
	for _, point := range []failpoint.Point{failpoint.DetachUnplug, failpoint.DetachNetdev} {
		q, dir := newQMP(t, Limits{})
		machine := ejects
		machine.QMPDir = dir
		guest := testkit.StartQEMU(t, machine)
		vm := find(t, q, guest.Name)
		if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 1)); err != nil {
			t.Fatal(err)
		}
		q.at(point, func() error { guest.Kill(); return nil })
		if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
			t.Errorf("killed at %s: Unplug = %v", point, err)
		}
	}
}

func TestSocketThatIsDeletedUnderALivingVMIsNoReasonToForgetIt(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	vm := find(t, q, guest.Name)
	remove(t, guest.Socket)
	if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err == nil {
		t.Error("Unplug says done, while QEMU runs and could not be asked")
	}
	guest.Kill()
	if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
		t.Errorf("Unplug from a VM that has gone: %v", err)
	}
}
