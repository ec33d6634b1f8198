package hypervisor

import (
	"errors"
	"testing"

	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAnotherRunOnTheSameSocketIsAskedAnew(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	for _, uuid := range []string{"11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"} {
		guest := testkit.StartQEMU(t, testkit.QEMUOptions{Name: "again", QMPDir: dir, UUID: uuid})
		for range 2 { // the second time from memory
			if vm := find(t, q, "again"); vm.UUID != uuid {
				t.Errorf("uuid %s, want %s", vm.UUID, uuid)
			}
		}
		guest.Kill()
	}
}

func TestPlaceThatSomebodyElseTookMeanwhileIsNotChosen(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, RootPorts: 3})
	vm := find(t, q, guest.Name)
	first, err := q.Plug(t.Context(), vm, nic(t, "net0", 1))
	if err != nil || first.Bus != "rp0" {
		t.Fatalf("the first NIC is at %+v, %v", first, err)
	}
	guest.QMP("device_add", map[string]string{"driver": "pcie-pci-bridge", "id": "theirs", "bus": "rp1"})
	second, err := q.Plug(t.Context(), vm, nic(t, "net1", 1))
	if err != nil || second.Bus != "rp2" {
		t.Errorf("the second NIC is at %+v, %v, want rp2", second, err)
	}
	// The bridge of somebody else is a place of its own, and known at once.
	third, err := q.Plug(t.Context(), vm, nic(t, "net2", 1))
	if err != nil || third.Bus != "theirs" {
		t.Errorf("the third NIC is at %+v, %v, want the bridge that was plugged meanwhile", third, err)
	}
}

func TestNICIsCleanOnlyAfterWhatWentWellToItsEnd(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, RootPorts: 1, Args: []string{"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"}})
	vm := find(t, q, guest.Name)
	marked := func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.known[guest.Socket].clean["net0"]
	}
	for _, step := range []struct {
		what string
		at   failpoint.Point
		do   func() error
	}{
		{"plug", failpoint.HandoverNetdev, func() error { _, err := q.Plug(t.Context(), vm, nic(t, "net0", 1)); return err }},
		{"unplug", failpoint.DetachNetdev, func() error { return q.Unplug(t.Context(), vm, NIC{ID: "net0"}) }},
	} {
		q.at(step.at, func() error { return errProvoked })
		if err := step.do(); !errors.Is(err, errProvoked) || marked() {
			t.Errorf("%s that failed: %v, clean %v", step.what, err, marked())
		}
		q.at("", nil)
		if err := step.do(); err != nil || !marked() {
			t.Errorf("%s: %v, clean %v", step.what, err, marked())
		}
	}
	clean(t, guest, "net0")
}
