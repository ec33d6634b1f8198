package hypervisor

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func incoming(t *testing.T, dir string, start func(testkit.QEMUOptions) *testkit.QEMU) (source, target *testkit.QEMU, uri string) {
	t.Helper()
	uri = "unix:" + filepath.Join(dir, "stream")
	source = testkit.StartQEMU(t, testkit.QEMUOptions{Running: true})
	return source, start(testkit.QEMUOptions{Running: true, Args: []string{"-incoming", uri}}), uri
}

func TestVMThatWaitsForAMigrationSaysSoUntilItRuns(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	name := vmName("in")
	source, target, uri := incoming(t, dir, func(o testkit.QEMUOptions) *testkit.QEMU {
		o.Name, o.QMPDir = name, dir
		return testkit.StartQEMU(t, o)
	})
	for _, look := range []func() (VM, error){
		func() (VM, error) { return q.Find(t.Context(), name, "") },
		func() (VM, error) { return q.Ask(t.Context(), name, "") },
	} {
		if vm, err := look(); err != nil || !vm.Incoming || vm.Running || vm.PID != target.PID {
			t.Errorf("while it waits: %+v, %v", vm, err)
		}
	}
	fast := time.Hour
	for range 20 {
		start := time.Now()
		if _, err := q.Ask(t.Context(), name, ""); err != nil {
			t.Fatal(err)
		}
		fast = min(fast, time.Since(start))
	}
	t.Logf("the fastest of 20 questions took %v", fast)
	if fast > 50*time.Millisecond { // 2 ms on an idle machine
		t.Errorf("a question takes %v", fast)
	}
	source.QMP("migrate", map[string]string{"uri": uri})
	for deadline := time.Now().Add(longEnough); ; {
		vm, err := q.Ask(t.Context(), name, "")
		if err != nil {
			t.Fatal(err)
		}
		if !vm.Incoming {
			if !vm.Running {
				t.Errorf("it arrived as %+v", vm)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it never arrives")
		}
	}
	if vm, err := q.Find(t.Context(), name, ""); err != nil || vm.Incoming || !vm.Running {
		t.Errorf("found as %+v, %v", vm, err)
	}
}

func TestVMThatDiesWaitingForAMigrationIsNotFound(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	_, target, _ := incoming(t, dir, func(o testkit.QEMUOptions) *testkit.QEMU {
		o.QMPDir = dir
		return testkit.StartQEMU(t, o)
	})
	if vm, err := q.Ask(t.Context(), target.Name, ""); err != nil || !vm.Incoming {
		t.Fatalf("%+v, %v", vm, err)
	}
	target.Kill()
	if _, err := q.Ask(t.Context(), target.Name, ""); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("Ask = %v", err)
	}
}

func TestEventsTellThatAMigrationHasArrived(t *testing.T) {
	q, dir := newEars(t, Limits{})
	seen := watch(t, q)
	name := vmName("inear")
	source, target, uri := incoming(t, dir, func(o testkit.QEMUOptions) *testkit.QEMU { return withEvents(t, dir, name, o) })
	until(t, seen, "it waits", func(Sighting) bool {
		vm, err := q.Find(t.Context(), name, "")
		return err == nil && vm.Incoming && vm.Halted
	})
	holdSocket(t, target.Socket) // as whoever waits for the end of the migration may
	source.QMP("migrate", map[string]string{"uri": uri})
	until(t, seen, "it runs", func(s Sighting) bool {
		vm, err := q.Find(t.Context(), name, "")
		return s.Name == name && err == nil && !vm.Incoming && !vm.Halted && vm.Running
	})
}

// Proxmox and others start it with -S and say cont themselves.
func TestVMThatHasArrivedAndDoesNotRunYetStillWaits(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	name := vmName("in")
	source, target, uri := incoming(t, dir, func(o testkit.QEMUOptions) *testkit.QEMU {
		o.Name, o.QMPDir, o.Running = name, dir, false
		return testkit.StartQEMU(t, o)
	})
	find := func() VM {
		vm, err := q.Find(t.Context(), name, "")
		if err != nil {
			t.Fatal(err)
		}
		return vm
	}
	if vm := find(); !vm.Incoming {
		t.Errorf("while it waits: %+v", vm)
	}
	source.QMP("migrate", map[string]string{"uri": uri})
	for deadline := time.Now().Add(longEnough); !strings.Contains(string(target.QMP("query-status", nil)), `"paused"`); {
		if time.Now().After(deadline) {
			t.Fatal("it never arrives")
		}
	}
	if vm := find(); !vm.Incoming || vm.Running {
		t.Errorf("it has arrived: %+v", vm)
	}
	target.QMP("cont", nil)
	if vm := find(); vm.Incoming || !vm.Running {
		t.Errorf("it runs: %+v", vm)
	}
	target.QMP("stop", nil)
	if vm := find(); vm.Incoming {
		t.Errorf("it was stopped: %+v", vm)
	}
}
