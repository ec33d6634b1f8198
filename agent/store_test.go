package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

func TestDetachThatCannotBeForgottenIsTriedAgain(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	heard := h.subscribe()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	var back func()
	w.At("Remove", 1, func() error {
		back = h.noDisk()
		return nil
	})
	got, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0"})
	if err != nil || len(got) != 1 || got[0].Phase != vmnetd.Detaching || !strings.Contains(got[0].Problem, "state.json") {
		t.Errorf("detach = %+v, %v", got, err)
	}
	if list := a.List(""); len(list) != 1 {
		t.Errorf("forgotten in memory and not on disk: %+v", list)
	}
	back()
	eventually(t, "disk back", func() error {
		if att, ok := heard.attachment("vm1/net0"); ok {
			return fmt.Errorf("subscribers still know %+v", att)
		}
		return h.clean("vm1")
	})
	if n := heard.count("detached"); n != 1 {
		t.Errorf("%d detached events", n)
	}
}

func TestDetachThatCannotBeWrittenDownChangesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig(vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}))
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net1"})
	back := h.noDisk()
	got, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{All: true})
	back()
	if !errors.Is(err, vmnetd.ErrFailed) || !contains(err, "vm1/net0") || len(got) != 0 {
		t.Errorf("detach = %+v, %v", got, err)
	}
	for _, id := range []string{"net0", "net1"} {
		if err := h.works("vm1", id); err != nil {
			t.Error(err)
		}
	}
	if len(a.store.held) != 0 {
		t.Errorf("held: %v", a.store.held)
	}
}

func TestAttachThatCannotBeWrittenDownDoesNothing(t *testing.T) {
	for _, point := range []failpoint.Point{failpoint.StoreWrite, failpoint.StoreWritten} {
		t.Run(string(point), func(t *testing.T) {
			w := newWorld()
			w.StartVM("vm1")
			h := newHost(t, w, testConfig())
			h.fp, _ = failpoint.Parse(string(point) + "=1*error")
			a := h.start()
			if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"}); !errors.Is(err, vmnetd.ErrFailed) || !contains(err, "nothing was done") {
				t.Errorf("attach: %v", err)
			}
			if err := h.clean("vm1"); err != nil {
				t.Error(err)
			}
			if left := onDisk(t, h); len(left) != 0 {
				t.Errorf("on disk: %v", left)
			}
		})
	}
}

func TestAttachWithoutADiskDoesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	back := h.noDisk()
	_, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"})
	back()
	if !errors.Is(err, vmnetd.ErrFailed) {
		t.Errorf("attach: %v", err)
	}
	if err := h.clean("vm1"); err != nil {
		t.Error(err)
	}
}

// onDisk names the attachments in the state file.
func onDisk(t *testing.T, h *host) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var f struct{ Attachments []vmnetd.Attachment }
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, att := range f.Attachments {
		names = append(names, att.FullName())
	}
	slices.Sort(names)
	return names
}

func TestStateOfAnotherBootIsForgotten(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	attach(t, h.start(), vmnetd.Request{VM: "vm1", ID: "net0"})
	h.halt()
	state := filepath.Join(h.dir, "state.json")
	b, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{
		strings.Replace(string(b), `"boot":"boot"`, `"boot":"yesterday"`, 1),
		strings.Replace(string(b), `"vm":"vm1"`, `"vm":1`, 1),
	} {
		s := newStore(state, "boot", nil)
		if err := os.WriteFile(state, []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		err := s.load()
		if wrong := !strings.Contains(other, "yesterday"); wrong != (err != nil) {
			t.Errorf("load = %v of %s", err, other)
		}
		if list := s.of(""); len(list) != 0 {
			t.Errorf("of another boot, or unreadable: %+v", list)
		}
	}
}

func TestUnreadableStateFileIsReportedAndTheDaemonRuns(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	if err := os.Mkdir(filepath.Join(h.dir, "state.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	a := h.start()
	if p := a.Status().Problems; len(p) != 1 || p[0].Name != "state" || p[0].Level != vmnetd.LevelWarn {
		t.Errorf("problems: %+v", p)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "state.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was not moved aside: %v", err)
	}
}

func TestHoldOutlivesTheDaemonAlsoForANICByFD(t *testing.T) {
	w := newWorld()
	h := newHost(t, w, testConfig(vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}))
	a := h.start()
	w.At("VM", 1<<30, func() error { return vmnetd.Errorf(vmnetd.ErrNotFound, "not yet") })
	owner := sleeper(t)
	att := opened(t, h, owner.Process.Pid)
	if att.ID != "net0" {
		t.Fatalf("%+v", att)
	}
	w.At("VM", 0, nil)
	w.StartVM("vm1")
	if got, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{}); err != nil || len(got) != 1 || got[0].Phase != vmnetd.Detaching || got[0].Problem == "" {
		t.Fatalf("while a process holds its queues: %+v, %v", got, err)
	}
	w.Release(owner.Process.Pid)
	for range 2 { // the first look removes it, the second finds it wanted
		_, _ = inTurn(context.Background(), a, "vm1", func(ctx context.Context) (int, error) { a.reconcile(ctx, "vm1"); return 0, nil }, func() (int, error) { return 0, nil })
	}
	if list := a.List("vm1"); len(list) != 0 {
		t.Errorf("came back in the same run of the VM: %+v", list)
	}
}
