package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// steps are the points that the agent itself passes on an attach or a detach.
func steps(prefixes ...string) []failpoint.Point {
	var list []failpoint.Point
	for _, p := range failpoint.Points {
		for _, prefix := range prefixes {
			if strings.HasPrefix(string(p), prefix) && p != failpoint.DetachUnplug && p != failpoint.DetachNetdev {
				list = append(list, p)
			}
		}
	}
	return list
}

func failing(t *testing.T, p failpoint.Point) *host {
	t.Helper()
	w := newWorld()
	w.StartVM("fw1")
	h := newHost(t, w, testConfig())
	fp, err := failpoint.Parse(string(p) + "=1*error")
	if err != nil {
		t.Fatal(err)
	}
	h.fp = fp
	h.start()
	return h
}

func TestAttachThatFailsAtAnyStepIsUndone(t *testing.T) {
	for _, p := range steps("attach.", "converge.", "store.") {
		t.Run(string(p), func(t *testing.T) {
			h := failing(t, p)
			if _, err := h.agent.Attach(t.Context(), Caller{}, passthruReq); !contains(err, string(p)) {
				t.Errorf("attach: %v", err)
			}
			if err := h.clean("fw1"); err != nil {
				t.Error(err)
			}
			if left := onDisk(t, h); len(left) != 0 {
				t.Errorf("on disk: %v", left)
			}
			attach(t, h.agent, passthruReq) // the point is used up
		})
	}
}

func TestDetachThatFailsAtAnyStepIsCompleted(t *testing.T) {
	for _, p := range steps("detach.") {
		t.Run(string(p), func(t *testing.T) {
			h := failing(t, p)
			attach(t, h.agent, passthruReq)
			got, err := h.agent.Detach(t.Context(), Caller{}, "fw1", Selector{})
			if err != nil || len(got) != 1 || !strings.Contains(got[0].Problem, string(p)) {
				t.Errorf("detach: %+v, %v", got, err)
			}
			eventually(t, "tried again", func() error { return h.clean("fw1") })
		})
	}
}

func TestAttachOfANICByFD(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	owner := sleeper(t)
	before := opened(t, h, owner.Process.Pid)
	req := vmnetd.Request{VM: "vm1", ID: before.ID}
	h.w.SetUp(before.Ifname, false)
	if same := attach(t, a, req); same.Changed || same.Via != "exec" || same.Link != "up" {
		t.Errorf("while its process lives: %+v", same)
	}
	a.owners.drop(key{"vm1", before.ID}) // its end is not seen in time
	h.w.Release(owner.Process.Pid)
	_ = owner.Process.Kill()
	_ = owner.Wait()
	if now := attach(t, a, req); !now.Changed || now.Via != "qmp:/run/vm1" {
		t.Errorf("after its process has ended: %+v", now)
	}
	if err := h.works("vm1", before.ID); err != nil {
		t.Error(err)
	}
}

func TestNICNotOnItsFirstChoiceSaysSo(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	cfg := testConfig()
	cfg.Policy.Networks[0].Uplinks = []string{"u0", "u1"}
	w.RemoveUplink("u0")
	h := newHost(t, w, cfg)
	a := h.start()
	if att := attach(t, a, vmnetd.Request{VM: "vm1"}); att.Uplink != "u1" || !strings.Contains(att.Problem, "not on the network's first choice") {
		t.Errorf("%+v", att)
	}
	if p := a.Status().Problems; len(p) != 2 || p[1].Level != vmnetd.LevelWarn || p[1].Name != "vm1/net0" {
		t.Errorf("problems: %+v", p)
	}
}

func TestHandoverThatGoesWrongIsTriedAgain(t *testing.T) {
	for _, call := range []string{"CutOff", "Unplug", "Plug", "Holders"} {
		t.Run(call, func(t *testing.T) {
			w := newWorld()
			w.StartVM("vm1")
			h := newHost(t, w, testConfig())
			a := h.start()
			heard := h.subscribe()
			att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
			w.Refuse(call, 3)
			w.DeleteDevice(att.Ifname)
			eventually(t, "repaired", func() error {
				if now, _ := heard.attachment("vm1/net0"); now.Ifindex == att.Ifindex || now.Phase != vmnetd.Attached {
					return errors.New("not yet")
				}
				return h.works("vm1", "net0")
			})
			if n := heard.count("broken"); call != "Holders" && n == 0 {
				t.Error("nobody was told")
			}
		})
	}
}
