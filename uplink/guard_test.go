package uplink

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// killed says that a process ended by SIGKILL.
func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	return ok && ws.Signal() == syscall.SIGKILL
}

func TestVMGuardTakesBackWhatADeadDaemonApplied(t *testing.T) {
	h := newHost(t, "eno1")
	before := h.brief(t)
	start, options := time.Now(), vmnetd.ApplyOptions{ConfirmWithin: 5 * time.Second}
	if err := h.daemon(t, order{Specs: []Spec{bridge("br0", "eno1")}, Options: options}, ""); err != nil {
		t.Fatal(err)
	}
	if !h.there(t, "br0") {
		t.Fatal("it was not applied")
	}
	h.isAsBefore(t, before)
	if took := time.Since(start); took < options.ConfirmWithin {
		t.Errorf("taken back after %v, before its time", took)
	}
	h.noCheckpoint(t)
	h.start(t)
	eventually(t, "the next daemon tells of it", func() bool {
		if err := h.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h.told("rolled-back")
	})
}

// TestApplyKilledAtAnyStepIsUndoneOrDone is the promise of the checkpoint: at
// whatever step the daemon is killed, without another start of it, all is as it
// was before, or, once it was confirmed, as it was applied.
func TestVMApplyKilledAtAnyStepIsUndoneOrDone(t *testing.T) {
	specs := []Spec{bridge("br0", "eno1", "eno2"), nicMTU("eno3", 1400)}
	type at struct {
		point failpoint.Point
		skip  int
	}
	points := []at{{failpoint.UplinkCheckpoint, 0}, {failpoint.UplinkArmed, 0}, {failpoint.UplinkChanged, 0}, {failpoint.UplinkVerified, 0}}
	for step := range stepsOf(t, specs) {
		points = append(points, at{failpoint.UplinkStep, step})
	}
	for _, p := range points {
		t.Run(fmt.Sprintf("%s+%d", p.point, p.skip), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "eno1", "eno2", "eno3")
			h.ip(t, "addr", "add", "192.0.2.17/24", "dev", "eno1")
			before := h.brief(t)
			err := h.daemon(t, order{Specs: specs, Options: vmnetd.ApplyOptions{Force: true}}, fmt.Sprintf("%s=%d+1*kill", p.point, p.skip))
			if !killed(err) {
				t.Fatalf("the daemon ended with %v", err)
			}
			if p.point == failpoint.UplinkCheckpoint { // nothing is changed and nobody guards: the next start drops it
				if err := h.Repair(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			h.noCheckpoint(t)
			h.isAsBefore(t, before)
		})
	}
}

func stepsOf(t *testing.T, specs []Spec) int {
	t.Helper()
	h := newHost(t, "eno1", "eno2", "eno3")
	h.ip(t, "addr", "add", "192.0.2.17/24", "dev", "eno1")
	w, err := h.way(t.Context(), specs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.steps) < 5 {
		t.Fatalf("only %d steps: %v", len(w.steps), w.steps)
	}
	return len(w.steps)
}

func TestVMConfirmKilledHalfwayIsUndoneOrDone(t *testing.T) {
	for point, kept := range map[failpoint.Point]bool{failpoint.UplinkConfirm: false, failpoint.UplinkConfirmed: true} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "eno1")
			before := h.brief(t)
			err := h.daemon(t, order{Specs: []Spec{bridge("br0", "eno1")}, Options: vmnetd.ApplyOptions{ConfirmWithin: 10 * time.Second}, Confirm: true}, string(point)+"=kill")
			if !killed(err) {
				t.Fatalf("the daemon ended with %v", err)
			}
			if !kept {
				h.noCheckpoint(t)
				h.isAsBefore(t, before)
				return
			}
			h.start(t)
			if err := h.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.noCheckpoint(t)
			if _, _, ever := h.Applied(); !ever || h.masterOf(t, "eno1") != "br0" {
				t.Error("what was confirmed is not kept")
			}
		})
	}
}

func TestVMRollbackKilledHalfwayIsFinishedByTheGuard(t *testing.T) {
	for _, point := range []failpoint.Point{failpoint.UplinkRollback, failpoint.UplinkRolledBack} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "eno1")
			before := h.brief(t)
			err := h.daemon(t, order{Specs: []Spec{bridge("br0", "eno1")}, Options: vmnetd.ApplyOptions{ConfirmWithin: 10 * time.Second}, Rollback: true}, string(point)+"=kill")
			if !killed(err) {
				t.Fatalf("the daemon ended with %v", err)
			}
			h.noCheckpoint(t)
			h.isAsBefore(t, before)
		})
	}
}

func TestVMRebootInsideTheWindowIsARollback(t *testing.T) {
	h := newHost(t, "eno1")
	h.apply(t, []Spec{bridge("br0", "eno1")}, vmnetd.ApplyOptions{NoConfirm: true})
	h.start(t, func(o *Options) { o.Boot = "the-boot-before" })
	h.apply(t, []Spec{bridge("br1", "eno1")}, vmnetd.ApplyOptions{ConfirmWithin: time.Hour})
	h.ns.Delete(t, "br1") // a reboot takes the devices
	h.start(t)
	if err := h.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.noCheckpoint(t)
	if h.there(t, "br1") || h.masterOf(t, "eno1") != "br0" {
		t.Error("what runs is not what was confirmed last")
	}
	if !h.told("rolled-back") {
		t.Error("nobody was told")
	}
}

func TestVMGuardEndsWhenItsApplyIsConfirmed(t *testing.T) {
	h := newHost(t, "eno1")
	h.apply(t, []Spec{bridge("br0", "eno1")}, vmnetd.ApplyOptions{ConfirmWithin: time.Hour})
	guards := func() int {
		out, _ := exec.Command("pgrep", "-f", "--", "--checkpoint "+filepath.Join(h.lib, "uplinks", "checkpoint.json")).Output()
		n := 0
		for _, c := range out {
			if c == '\n' {
				n++
			}
		}
		return n
	}
	if guards() != 1 {
		t.Fatalf("%d guards", guards())
	}
	if err := h.Confirm(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the guard has ended", func() bool { return guards() == 0 })
}
