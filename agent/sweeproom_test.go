package agent

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
)

// ipvtapByFD is an ipvtap whose queues a process got itself.
func ipvtapByFD(t *testing.T) (h *host, att vmnetd.Attachment, owner int) {
	t.Helper()
	h, _ = ipvtapHost(t)
	att, token := offered(t, h, vmnetd.Request{VM: "ip3", Network: "one", Via: "exec", IPs: []string{"192.0.2.13"}})
	cmd := sleeper(t)
	owner = cmd.Process.Pid
	done, err := claim(t, h, token, owner)
	if err != nil {
		t.Fatal(err)
	}
	h.w.Hold(owner, att.Ifindex)
	if att, err = done(nil); err != nil || att.Phase != vmnetd.Attached {
		t.Fatalf("%+v, %v", att, err)
	}
	if err := h.livesIn(att.Ifname, agenttest.OwnRoom); err != nil {
		t.Fatal(err)
	}
	return h, att, owner
}

// ends is the end of the process that got the queues; child: a process that goes on
// with them, 0: none.
func (h *host) ends(att vmnetd.Attachment, owner, child int) {
	h.t.Helper()
	if child != 0 {
		h.w.Hold(child, h.agent.List(att.VM)[0].Ifindex)
	}
	h.w.Release(owner)
	h.agent.owners.drop(key{att.VM, att.ID}) // the test says when it is looked at
	r, _ := h.agent.store.get(key{att.VM, att.ID})
	gone := *r.Owner
	gone.Start--
	r.Owner = &gone
	if err := h.agent.store.put(r); err != nil {
		h.t.Fatal(err)
	}
}

func TestAnIpvtapsQueuesMayBeLeftToAChild(t *testing.T) {
	h, att, owner := ipvtapByFD(t)
	child := sleeper(t)
	h.ends(att, owner, child.Process.Pid)
	reconciled(t, h.agent, att.VM)
	r, ok := h.agent.store.get(key{att.VM, att.ID})
	if !ok || r.Owner == nil || r.Owner.PID != child.Process.Pid || r.Phase != vmnetd.Attached {
		t.Fatalf("there: %v, %+v", ok, r)
	}
	if err := h.livesIn(att.Ifname, agenttest.OwnRoom); err != nil {
		t.Error(err)
	}
	h.w.Release(child.Process.Pid)
	_ = child.Process.Kill()
	_ = child.Wait()
	eventually(t, "gone with the child", func() error { return h.gone(att) })
}

func (h *host) gone(att vmnetd.Attachment) error {
	if list := h.agent.List(att.VM); len(list) != 0 {
		return fmt.Errorf("%+v", list)
	}
	if home, there := h.w.Homes()[att.Ifname]; there {
		return fmt.Errorf("%s is still in %q", att.Ifname, home)
	}
	return nil
}

func TestAnIpvtapThatNobodyHoldsGoesAndOneThatSomebodyMayHoldStays(t *testing.T) {
	h, att, owner := ipvtapByFD(t)
	h.w.SetUnseen(true)
	h.ends(att, owner, 0)
	reconciled(t, h.agent, att.VM)
	if err := h.livesIn(att.Ifname, agenttest.OwnRoom); err != nil {
		t.Error(err)
	}
	h.w.SetUnseen(false)
	reconciled(t, h.agent, att.VM)
	if err := h.gone(att); err != nil {
		t.Error(err)
	}
}

func TestIpvtapsThatNoRecordNamesAreAdoptedWhereTheyAreHeld(t *testing.T) {
	for name, c := range map[string]struct{ held, unseen, there bool }{
		"held":                    {held: true, there: true},
		"held by nobody":          {},
		"held by somebody unseen": {unseen: true, there: true},
	} {
		t.Run(name, func(t *testing.T) {
			h, att, owner := ipvtapByFD(t)
			h.halt()
			h.loseState()
			if !c.held {
				h.w.Release(owner)
			}
			h.w.SetUnseen(c.unseen)
			h.start()
			if !c.there {
				if err := errors.Join(h.gone(att), h.works("ip1", "net0")); err != nil {
					t.Error(err)
				}
				return
			}
			if err := h.livesIn(att.Ifname, agenttest.OwnRoom); err != nil {
				t.Fatal(err)
			}
			r, ok := h.agent.store.get(key{att.VM, att.ID})
			if !ok || c.held && (r.Owner == nil || r.Owner.PID != owner) {
				t.Errorf("there: %v, %+v", ok, r)
			}
			h.w.Release(owner)
			h.w.SetUnseen(false)
			if _, err := h.agent.Detach(t.Context(), Caller{}, att.VM, Selector{All: true}); err != nil && !errors.Is(err, vmnetd.ErrNotFound) { // it may have been seen to go just now
				t.Error(err)
			}
			eventually(t, "detached", func() error { return h.gone(att) })
		})
	}
}
