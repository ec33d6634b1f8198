package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func names(checks []vmnetd.Check) string {
	var list []string
	for _, c := range checks {
		list = append(list, c.Level+" "+c.Name)
	}
	return strings.Join(list, ", ")
}

func TestStatusTellsTheWorstFirst(t *testing.T) {
	w := newWorld()
	for _, vm := range []string{"vm1", "vm2", "fw1"} {
		w.StartVM(vm)
	}
	cfg := testConfig(vmnetd.Request{VM: "evil", ID: "net0", Network: "lan"})
	cfg.Warnings = []string{"vmnetd.yaml:12:1: rule 4 can never match"}
	h := newHost(t, w, cfg)
	h.cfg.next.Raw = []byte("edited")
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	attach(t, a, passthruReq)
	w.SetStuck("vm1", true)
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{}); err != nil {
		t.Fatal(err)
	}
	w.RemoveUplink("u1")
	w.StartVM("evil")
	eventually(t, "everything is said", func() error {
		s := a.Status()
		want := "fail uplink u1, fail evil/net0, fail fw1/net0, warn configuration, warn configuration, warn vm1/net0"
		if got := names(s.Problems); got != want {
			return fmt.Errorf("%s\nwant %s", got, want)
		}
		if s.Uplinks[0].Guests != 1 || s.Version != "test" || s.Config != "vmnetd.yaml" || len(s.Attachments) != 3 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestDoctorNamesWhatIsWrongWithTheConfigurationAndTheUplinks(t *testing.T) {
	w := newWorld()
	src := &scripted{accepted: testConfig(), candidate: testConfig()}
	a := fresh(t, w, src)
	if err := a.loadConfig(); err != nil {
		t.Fatal(err)
	}
	a.turns = newTurns(t.Context())
	w.RemoveUplink("u1")
	a.refreshUplinks(t.Context())
	if got := names(a.Doctor(t.Context())); got != "ok uplink u0, fail uplink u1" {
		t.Errorf("%s", got)
	}
	src.acceptedErr = errors.New("accepted.yaml is cut short")
	if got := names(a.Doctor(t.Context())); got != "ok uplink u0, fail uplink u1, fail configuration" {
		t.Errorf("%s", got)
	}
}

func TestNewsOfALinkThatIsNoUplinksHasNoUplinkLookedAt(t *testing.T) {
	w := newWorld()
	a := fresh(t, w, &scripted{accepted: testConfig(), candidate: testConfig()})
	if err := a.loadConfig(); err != nil {
		t.Fatal(err)
	}
	w.RemoveUplink("u1")
	w.AddUplink("docker0", "02:00:00:00:00:77")
	if a.Refresh(t.Context(), "u0"); len(a.Uplinks()) != 1 || a.Uplinks()[0].Name != "u0" {
		t.Errorf("one that nobody has looked at yet: %+v", a.Uplinks())
	}
	a.refreshUplinks(t.Context())
	matters := func(name string) bool {
		for _, l := range a.o.Links.All() {
			if l.Name == name {
				return a.mattersToUplinks(l.Index)
			}
		}
		t.Fatalf("no link %s", name)
		return false
	}
	gone := a.uplinks["u0"].Ifindex
	w.AddUplink("u1", "02:00:00:00:00:78") // declared, and was not there
	if matters("docker0") || !matters("u0") || !matters("u1") {
		t.Errorf("docker0 %v, u0 %v, u1 %v", matters("docker0"), matters("u0"), matters("u1"))
	}
	w.RemoveUplink("u0")
	if !a.mattersToUplinks(gone) || !a.mattersToUplinks(0) || a.mattersToUplinks(1<<20) {
		t.Error("one that has gone, all of them, or one that never was")
	}
}

func TestUplinkThatIsUpAndHasAProblemIsAWarning(t *testing.T) {
	c := uplinkCheck(vmnetd.UplinkState{Name: "lan", Ifname: "eno1", State: "up", Problem: "eno1 was renamed"})
	if c.Level != vmnetd.LevelWarn || c.Text != "eno1 was renamed" || c.Do != "ip -d link show eno1" {
		t.Errorf("%+v", c)
	}
}

func TestLinkStates(t *testing.T) {
	if got := []string{linkState(false, false), linkState(true, false), linkState(true, true)}; !slices.Equal(got, []string{"down", "no-carrier", "up"}) {
		t.Errorf("%v", got)
	}
}

func TestVMsAreThoseThatRunAndThoseThatHaveOrWantANIC(t *testing.T) {
	w := newWorld()
	w.StartVM("runs")
	h := newHost(t, w, testConfig(vmnetd.Request{VM: "wants", ID: "net0", Network: "lan"}))
	a := h.start()
	offered(t, h, vmnetd.Request{VM: "has"})
	if got := a.VMs(); !slices.Equal(got, []string{"has", "runs", "wants"}) {
		t.Errorf("%v", got)
	}
}

func TestExplainTouchesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("fw1")
	h := newHost(t, w, testConfig())
	a := h.start()
	for vm, where := range map[string]string{"fw1": "qmp, running", "asleep": "not found running", "paused": "qmp, paused"} {
		if vm == "paused" {
			w.StartVM(vm)
			w.SetPaused(vm)
		}
		got, err := a.Explain(t.Context(), Caller{}, vmnetd.Request{VM: vm}, false)
		if err != nil || len(got) != 1 || !strings.Contains(fmt.Sprintf("%+v", got[0]), where) {
			t.Errorf("%s, %v: %+v", vm, err, got)
		}
	}
	all, err := a.Explain(t.Context(), Caller{}, vmnetd.Request{VM: "fw1"}, true)
	if err != nil || len(all) != 3 {
		t.Errorf("all networks: %+v, %v", all, err)
	}
	if _, err := a.Explain(t.Context(), Caller{UID: 1000}, vmnetd.Request{VM: "fw1", Via: "qmp:/tmp/mine"}, false); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("a socket of one's own: %v", err)
	}
	if err := h.clean("fw1"); err != nil || len(onDisk(t, h)) != 0 || len(a.Events(time.Time{})) != 0 {
		t.Errorf("it left something: %v", err)
	}
}

func TestRequestsThatNoLookupIsNeededToRefuse(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	for _, c := range []struct {
		req  vmnetd.Request
		uid  uint32
		want error
		say  string
	}{
		{vmnetd.Request{VM: "a/b"}, 0, vmnetd.ErrInvalid, "contains '/'"},
		{vmnetd.Request{VM: "vm1", ID: "0net"}, 0, vmnetd.ErrInvalid, "NIC id"},
		{vmnetd.Request{VM: "vm1", Via: "libvirt:x"}, 0, vmnetd.ErrInvalid, "none of libvirt, qmp, qmp:/path"},
		{vmnetd.Request{VM: "vm1", Config: true, Handover: "fd"}, 0, vmnetd.ErrInvalid, "cannot be kept"},
		{vmnetd.Request{VM: "vm1", Via: "netns:relative"}, 0, vmnetd.ErrInvalid, "none of libvirt, qmp, qmp:/path"},
		{vmnetd.Request{VM: "vm1", Via: "qmp:relative"}, 0, vmnetd.ErrInvalid, "none of libvirt, qmp, qmp:/path"},
		{vmnetd.Request{VM: "vm1", Via: "qmp:/tmp/s"}, 1000, vmnetd.ErrDenied, "only root"},
	} {
		if _, err := a.Attach(t.Context(), Caller{UID: c.uid}, c.req); !errors.Is(err, c.want) || !contains(err, c.say) {
			t.Errorf("%+v: %v", c.req, err)
		}
	}
	if _, err := a.Detach(t.Context(), Caller{}, "..", Selector{}); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("detach: %v", err)
	}
	if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "nobody"}); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("a VM that is not there: %v", err)
	}
}

func TestAttachOfWhatIsThereNamesEveryDifference(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0", MAC: "52:54:00:00:00:0A"})
	if again := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0", MAC: "52-54-00-00-00-0a", Queues: 2}); again.Changed {
		t.Errorf("%+v", again)
	}
	_, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: "net0", MAC: "52:54:00:00:00:0b", Network: "fw", Uplink: "u1", Queues: 1, Via: "qmp:/else"})
	for _, part := range []string{"network lan, not fw", "uplink u0, not u1", "MAC 52:54:00:00:00:0a, not 52:54:00:00:00:0b", "2 queues, not 1", "handed over qmp:/run/vm1, not qmp:/else"} {
		if !errors.Is(err, vmnetd.ErrBusy) || !contains(err, part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}

// blocked keeps a VM's turn until the test ends.
func blocked(t *testing.T, a *Agent, vm string) context.Context {
	t.Helper()
	free := make(chan struct{})
	t.Cleanup(func() { close(free) })
	a.turns.do(vm, func(context.Context) { <-free })
	late, cancel := context.WithCancel(t.Context())
	cancel()
	return late
}

func TestCallThatTakesTooLongAnswersForWhatItAskedFor(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	t.Cleanup(func() { h.halt() }) // after the turn is free
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net1"})
	offered(t, h, vmnetd.Request{VM: "vm1", ID: "net2"}) // pending, and nobody's business here
	late := blocked(t, a, "vm1")
	got, err := a.Attach(late, Caller{}, vmnetd.Request{VM: "vm1", Mode: vmnetd.Private})
	if got.ID != "" || err != nil && !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("attach: %+v, %v", got, err)
	}
	if got, err := a.Attach(late, Caller{}, vmnetd.Request{VM: "vm1", ID: "net1"}); err != nil || got.ID != "net1" || got.Phase != vmnetd.Attached {
		t.Errorf("attach of what is there: %+v, %v", got, err)
	}
	list, err := a.Detach(late, Caller{}, "vm1", Selector{ID: "net0"})
	if err != nil || len(list) != 1 || list[0].ID != "net0" {
		t.Errorf("detach: %+v, %v", list, err)
	}
	if list, err := a.Detach(late, Caller{}, "vm1", Selector{ID: "net9"}); err != nil || len(list) != 0 {
		t.Errorf("detach of what may just have gone: %+v, %v", list, err)
	}
	if _, err := a.Detach(late, Caller{}, "vm1", Selector{}); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("detach of no one in particular: %v", err)
	}
}

func TestStoppedAgentTakesNoCalls(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	h.halt()
	if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"}); !errors.Is(err, vmnetd.ErrFailed) || !contains(err, "stopping") {
		t.Errorf("%v", err)
	}
	a.lookAgain("vm1")
	a.lookLater(key{"vm1", "net0"})
	if len(a.retries.timers) != 0 {
		t.Error("a timer was started")
	}
	a.reconcileAll(t.Context()) // returns
}

func TestEarlierRunIsForgottenBeforeTheNextOneIsAttached(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	before := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	_, err := inTurn(t.Context(), a, "vm1", func(ctx context.Context) (int, error) {
		w.StartVM("vm1") // nobody looks: this is the VM's turn
		att, err := a.attach(ctx, vmnetd.Request{VM: "vm1", ID: "net0"})
		if err == nil && (!att.Changed || att.Ifindex == before.Ifindex) {
			err = fmt.Errorf("the earlier run's NIC: %+v", att)
		}
		return 0, err
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.works("vm1", "net0"); err != nil {
		t.Error(err)
	}
}

func TestNICOfAnotherKnownByNobodyIsPluggedAnew(t *testing.T) {
	for name, held := range map[string]bool{"it holds this device": true, "it holds one that has gone": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.StartVM("vm1")
			h := newHost(t, w, testConfig())
			a := h.start()
			attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
			turnOf(t, a, "vm1", func(ctx context.Context) {
				r, _ := a.store.get(key{"vm1", "net0"})
				r.Handed, r.Phase = 0, vmnetd.Pending // as a crash leaves it
				if !held {
					w.DeleteDevice(r.Ifname)
				}
				vm, err := a.o.Hypervisor.Find(ctx, "vm1", "")
				if err == nil {
					_, err = a.converge(ctx, r, vm)
				}
				if err != nil {
					t.Error(err)
				}
			})
			if err := h.works("vm1", "net0"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGuestThatKeepsADeadNICIsToldOf(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.SetStuck("vm1", true)
	w.DeleteDevice(att.Ifname)
	eventually(t, "said", func() error {
		if now := a.List("vm1")[0]; now.Phase != vmnetd.Broken || !strings.Contains(now.Problem, "has not let go of the NIC whose device has gone") {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	w.SetStuck("vm1", false)
	eventually(t, "let go", func() error { return h.works("vm1", "net0") })
}

func TestNarrowUplinkIsSaidWithoutTouchingTheGuest(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.SetMTU("u0", 1400)
	eventually(t, "said", func() error {
		if now := a.List("vm1")[0]; now.Phase != vmnetd.Attached || !strings.Contains(now.Problem, "MTU 1400 now, the guest was given 1500") || now.Ifindex != att.Ifindex {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	w.SetMTU("u0", 1500)
	eventually(t, "wide again", func() error { return h.works("vm1", "net0") })
}

func TestUplinkThatCannotBeAskedForStaysListed(t *testing.T) {
	w := newWorld()
	h := newHost(t, w, testConfig())
	a := h.start()
	heard := h.subscribe()
	w.Refuse("State", 1<<30)
	a.wake.set(0)
	eventually(t, "said", func() error {
		if s := a.Status(); len(s.Uplinks) != 2 || s.Uplinks[0].State != "up" || !strings.Contains(s.Uplinks[0].Problem, "not known") {
			return fmt.Errorf("%+v", s.Uplinks)
		}
		return nil
	})
	w.Refuse("State", 0)
	eventually(t, "asked again", func() error {
		if u := heard.uplink("u0"); u.Problem != "" || a.Uplinks()[0].Problem != "" {
			return fmt.Errorf("%+v", u)
		}
		return nil
	})
	eventually(t, "no timer is left", func() error { // the other uplink's goes when it was asked, too
		a.retries.mu.Lock()
		defer a.retries.mu.Unlock()
		if len(a.retries.timers) != 0 {
			return fmt.Errorf("timers are left: %v", a.retries.timers)
		}
		return nil
	})
}

func TestUplinkThatComesBackDuringALookIsNotMissed(t *testing.T) {
	for name, seen := range map[string]bool{"its absence was seen": true, "its absence was not seen": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.StartVM("vm1")
			h := newHost(t, w, testConfig())
			a := h.start()
			attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
			turnOf(t, a, "vm1", func(ctx context.Context) {
				before := a.Uplinks()[0].Ifindex
				w.Deaf(func() { w.RemoveUplink("u0") }) // nobody else looks at the NIC
				if seen {
					a.wake.set(anyUplink)
					waitUplink(t, a, func(u vmnetd.UplinkState) bool { return u.State == "absent" })
				}
				r, _ := a.store.get(key{"vm1", "net0"})
				vm, err := a.o.Hypervisor.Find(ctx, "vm1", "")
				if err != nil {
					t.Error(err)
				}
				// It is back before what this look found is written down.
				_, _, err = a.device(ctx, r)
				w.AddUplink("u0", uplinkMAC)
				waitUplink(t, a, func(u vmnetd.UplinkState) bool { return u.State == "up" && u.Ifindex != before })
				_ = a.troubled(ctx, r, vm, err)
			})
			eventually(t, "back", func() error { return h.works("vm1", "net0") })
		})
	}
}

func TestDeviceDeletedBeforeItIsNotedAsAttachedIsNotMissed(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	heard := h.subscribe()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	turnOf(t, a, "vm1", func(context.Context) {
		r, _ := a.store.get(key{"vm1", "net0"})
		r.Phase = vmnetd.Pending
		a.store.note(r)
		w.DeleteDevice(r.Ifname)
		eventually(t, "heard of", func() error {
			if att, _ := heard.attachment("vm1/net0"); att.Ifindex != 0 || att.Phase != vmnetd.Pending {
				return fmt.Errorf("%+v", att)
			}
			return nil
		})
		r.Phase = vmnetd.Attached
		if err := a.store.put(r); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "made anew", func() error { return h.works("vm1", "net0") })
}

func TestUplinkThatHasNotGotItsMACBackTakesNoOtherPassthru(t *testing.T) {
	w := newWorld()
	w.StartVM("fw1")
	w.StartVM("fw2")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, passthruReq)
	w.Refuse("RestoreMAC", 1<<30)
	if _, err := a.Detach(t.Context(), Caller{}, "fw1", Selector{}); err != nil {
		t.Fatal(err)
	}
	other := passthruReq
	other.VM = "fw2"
	if _, err := a.Attach(t.Context(), Caller{}, other); !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "fw1/net0") {
		t.Errorf("attach: %v", err)
	}
	w.Refuse("RestoreMAC", 0)
	eventually(t, "restored", func() error { return h.clean("fw1") })
	attach(t, a, other)
}

func waitUplink(t *testing.T, a *Agent, is func(vmnetd.UplinkState) bool) {
	t.Helper()
	eventually(t, "u0", func() error {
		if u := a.Uplinks()[0]; !is(u) {
			return fmt.Errorf("%+v", u)
		}
		return nil
	})
}

func TestMTUThatWasLoweredAndRaisedUnseenIsPutRight(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.Deaf(func() { w.SetMTU("u0", 1400) })
	w.SetMTU("u0", 1500)
	eventually(t, "put right", func() error {
		dev, err := a.o.Devices.Find(t.Context(), att.Ifname)
		if err != nil || dev.MTU != 1500 {
			return fmt.Errorf("%+v, %w", dev, err)
		}
		return h.works("vm1", "net0")
	})
}

func TestUplinkWithAGuestsMACIsNamed(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.SetUplinkMAC("u0", att.MAC)
	eventually(t, "said", func() error {
		if u := a.Uplinks()[0]; !strings.Contains(u.Problem, "is that of vm1/net0") {
			return fmt.Errorf("%+v", u)
		}
		return nil
	})
}

func TestFullResyncFindsWhatWasMissed(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.Deaf(func() { w.DeleteDevice(att.Ifname) })
	a.wake.set(0)
	eventually(t, "resync", func() error { return h.works("vm1", "net0") })
}

func TestWorldThatCannotBeWatchedEndsTheAgent(t *testing.T) {
	for _, call := range []string{"Ours", "Run", "Sync"} {
		w := newWorld()
		w.Refuse(call, 1)
		a := fresh(t, w, &scripted{accepted: testConfig(), candidate: testConfig()})
		if err := a.Run(t.Context()); err == nil {
			t.Errorf("%s failed, and the agent ended well", call)
		}
	}
}

func TestVMThatDiesInAHandoverLeavesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	w.At("Plugging", 1, func() error {
		w.StopVM("vm1")
		return vmnetd.Errorf(vmnetd.ErrNotFound, "QEMU went away")
	})
	if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"}); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("%v", err)
	}
	eventually(t, "gone", func() error { return h.clean("vm1") })
}

func TestVMThatRunsWithoutItsSocketIsSaid(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	qemu := sleeper(t)
	turnOf(t, a, "vm1", func(context.Context) {
		r, _ := a.store.get(key{"vm1", "net0"})
		owner, err := a.ownerOf(qemu.Process.Pid)
		if err != nil {
			t.Error(err)
		}
		r.Owner = &owner
		a.store.note(r)
	})
	w.StopVM("vm1")
	eventually(t, "said", func() error {
		if list := a.List("vm1"); len(list) != 1 || !strings.Contains(list[0].Problem, fmt.Sprintf("process %d holds", qemu.Process.Pid)) || list[0].Ifindex != att.Ifindex {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	_ = qemu.Process.Kill()
	_ = qemu.Wait()
	eventually(t, "ended", func() error { return h.clean("vm1") })
}

func TestHeldByAProcessThatCannotBeSearched(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	owner := sleeper(t)
	opened(t, h, owner.Process.Pid)
	h.incomplete(true)
	got, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{})
	if err != nil || len(got) != 1 || got[0].Phase != vmnetd.Detaching || !strings.Contains(got[0].Problem, "could not be searched") {
		t.Errorf("%+v, %v", got, err)
	}
	h.w.Release(owner.Process.Pid)
	h.incomplete(false)
	eventually(t, "searched", func() error { return h.clean("vm1") })
}

func TestRecordsThatAreBeyondUseAreRefused(t *testing.T) {
	a := fresh(t, newWorld(), &scripted{})
	r := record{Attachment: vmnetd.Attachment{VM: "vm1", ID: "net0", MAC: "nonsense"}, LowerMAC: "nonsense"}
	if _, err := r.spec(rtnl.Link{}); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("spec: %v", err)
	}
	if err := a.restoreMAC(t.Context(), r); err == nil {
		t.Error("a MAC that is none was restored")
	}
}
