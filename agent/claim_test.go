package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/tapdev"
)

// turnOf runs job in a VM's turn and waits for it.
func turnOf(t *testing.T, a *Agent, vm string, job func(context.Context)) {
	t.Helper()
	_, err := inTurn(context.Background(), a, vm, func(ctx context.Context) (int, error) {
		job(ctx)
		return 0, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func reconciled(t *testing.T, a *Agent, vm string) {
	t.Helper()
	turnOf(t, a, vm, func(ctx context.Context) { a.reconcile(ctx, vm) })
}

func offered(t *testing.T, h *host, req vmnetd.Request) (vmnetd.Attachment, []byte) {
	t.Helper()
	att, token, err := h.agent.OpenTap(t.Context(), Caller{}, req)
	if err != nil {
		t.Fatal(err)
	}
	return att, token
}

func TestLookDuringAHandoverTouchesNothing(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	owner := sleeper(t)
	att, token := offered(t, h, vmnetd.Request{VM: "vm1"})
	k := key{"vm1", att.ID}
	if got, ok := a.offers.take(token); !ok || got != k {
		t.Fatalf("take = %v, %v", got, ok)
	}
	reconciled(t, a, "vm1") // between the token and the turn of its claim
	a.offers.tokens[string(token)] = k
	done, err := claim(t, h, token, owner.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	reconciled(t, a, "vm1") // between the claim and its end
	if unheld := h.w.Unheld(); len(unheld) != 0 {
		t.Errorf("up before the queues were delivered: %v", unheld)
	}
	h.w.Hold(owner.Process.Pid, att.Ifindex)
	if att, err := done(nil); err != nil || att.Phase != vmnetd.Attached {
		t.Errorf("claimed: %+v, %v", att, err)
	}
	if a.offers.isOpen(k) {
		t.Error("the offer is open still")
	}
}

func TestClaimOfACallerThatGaveUpLeavesNoDescriptor(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	owner := sleeper(t)
	_, token := offered(t, h, vmnetd.Request{VM: "vm1"})
	gone, cancel := context.WithCancel(t.Context())
	h.w.At("Open", 1, func() error {
		cancel()
		return nil
	})
	of, err := a.ownerOf(owner.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	set, done, err := a.Claim(gone, token, of)
	if err != nil || set == nil {
		t.Fatalf("the queues were opened for nobody: %v, %v", set, err)
	}
	_, _ = done(gone.Err()) // its own ctx has ended too: what it does goes on without it
	eventually(t, "not delivered", func() error { return h.clean("vm1") })
}

func TestDetachDuringAHandoverWins(t *testing.T) {
	for name, again := range map[string]bool{"and nothing more": false, "and another offer": true} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, newWorld(), testConfig())
			a := h.start()
			req := vmnetd.Request{VM: "vm1", ID: "net0"}
			_, token := offered(t, h, req)
			done, err := claim(t, h, token, sleeper(t).Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0"}); err != nil {
				t.Fatal(err)
			}
			if again {
				offered(t, h, req)
			}
			if _, err := done(nil); !errors.Is(err, vmnetd.ErrNotFound) {
				t.Errorf("done after the detach: %v", err)
			}
			if list := a.List("vm1"); again && (len(list) != 1 || list[0].Phase != vmnetd.Pending) || !again && len(list) != 0 {
				t.Errorf("%+v", list)
			}
		})
	}
}

func TestClaimThatFailsIsUndone(t *testing.T) {
	for _, call := range []string{"Find", "Open", "disk", "failpoint", "Find at the end", "SetUp at the end"} {
		t.Run(call, func(t *testing.T) {
			h := newHost(t, newWorld(), testConfig())
			if call == "failpoint" {
				h.fp, _ = failpoint.Parse(string(failpoint.HandoverOpened) + "=1*error")
			}
			h.start()
			_, token := offered(t, h, vmnetd.Request{VM: "vm1", NoVHost: true})
			back := func() {}
			switch call {
			case "disk":
				h.w.At("Open", 1, func() error {
					back = h.noDisk()
					return nil
				})
			case "Find", "Open":
				h.w.Refuse(call, 1)
			}
			done, err := claim(t, h, token, os.Getpid())
			back()
			if at, ok := strings.CutSuffix(call, " at the end"); ok {
				h.w.Refuse(at, 1)
				_, err = done(nil)
			}
			if err == nil {
				t.Error("no error")
			}
			eventually(t, "undone", func() error { return h.clean("vm1") })
		})
	}
}

func TestHandoverWhoseEndIsNotKnownIsSettledByWhoHoldsTheQueues(t *testing.T) {
	for name, delivered := range map[string]bool{"delivered": true, "not delivered": false} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, newWorld(), testConfig())
			h.start()
			owner := sleeper(t)
			att, token := offered(t, h, vmnetd.Request{VM: "vm1"})
			if _, err := claim(t, h, token, owner.Process.Pid); err != nil {
				t.Fatal(err)
			}
			if delivered {
				h.w.Hold(owner.Process.Pid, att.Ifindex)
			}
			h.halt()
			a := h.start()
			if unheld := h.w.Unheld(); len(unheld) != 0 {
				t.Errorf("up and held by nobody: %v", unheld)
			}
			if list := a.List("vm1"); delivered && (len(list) != 1 || list[0].Phase != vmnetd.Attached) {
				t.Errorf("%+v", list)
			}
			if !delivered {
				eventually(t, "undone", func() error { return h.clean("vm1") })
			}
		})
	}
}

func TestOfferRunsOut(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	att, token := offered(t, h, vmnetd.Request{VM: "vm1"})
	k := key{"vm1", att.ID}
	a.offers.mu.Lock()
	a.offers.open[k].Reset(0)
	a.offers.mu.Unlock()
	eventually(t, "nobody came", func() error { return h.clean("vm1") })
	if _, err := claim(t, h, token, os.Getpid()); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("a claim too late: %v", err)
	}
}

func TestClaimOfADeviceThatWasDetachedIsNotFound(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	att, token := offered(t, h, vmnetd.Request{VM: "vm1"})
	k, _ := a.offers.take(token)
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{ID: att.ID}); err != nil {
		t.Fatal(err)
	}
	_, err := inTurn(t.Context(), a, "vm1", func(ctx context.Context) (int, error) {
		_, err := a.claim(ctx, k, Owner{})
		return 0, err
	}, nil)
	if !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestExecRightAfterTheEndOfTheLastRunGetsTheSameNIC(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	first := sleeper(t)
	before := opened(t, h, first.Process.Pid)
	a.owners.drop(key{"vm1", before.ID}) // its end is not seen in time
	h.w.Release(first.Process.Pid)
	_ = first.Process.Kill()
	_ = first.Wait()
	if after := opened(t, h, sleeper(t).Process.Pid); after.ID != before.ID || after.MAC != before.MAC {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestOpenTapSaysWhatItCannotDo(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	for _, bad := range []vmnetd.Request{{VM: ".."}, {VM: "vm1", ID: "0"}, {VM: "vm1", Via: "qmp"}} {
		if _, _, err := a.OpenTap(t.Context(), Caller{}, bad); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, _, err := a.OpenTap(t.Context(), Caller{}, vmnetd.Request{VM: "evil"}); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("%v", err)
	}
	h.w.Refuse("Ensure", 1)
	if _, _, err := a.OpenTap(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"}); !errors.Is(err, agenttest.ErrInjected) {
		t.Errorf("%v", err)
	}
	if err := h.clean("vm1"); err != nil {
		t.Error(err)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	turnEnd := make(chan struct{})
	a.turns.do("vm1", func(context.Context) { <-turnEnd })
	if _, token, err := a.OpenTap(late, Caller{}, vmnetd.Request{VM: "vm1"}); !errors.Is(err, vmnetd.ErrBusy) || token != nil {
		t.Errorf("an answer without a token: %v", err)
	}
	close(turnEnd)
}

func TestProcessThatChangesItsNICIsPutRight(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	att := opened(t, h, sleeper(t).Process.Pid)
	h.w.SetMAC(att.Ifname, "02:00:00:00:00:99")
	eventually(t, "MAC changed through a queue", func() error {
		dev, err := a.o.Devices.Find(t.Context(), att.Ifname)
		if err != nil || dev.MAC.String() != att.MAC {
			return fmt.Errorf("%+v, %w", dev, err)
		}
		return nil
	})
}

func TestNICByFDInTroubleIsTriedAgain(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	heard := h.subscribe()
	att := opened(t, h, sleeper(t).Process.Pid)
	h.w.Refuse("SetUp", 2)
	dev, err := a.o.Devices.Find(t.Context(), att.Ifname)
	if err != nil {
		t.Fatal(err)
	}
	h.w.SetUp(dev.Ifname, false)
	eventually(t, "set down by somebody", func() error {
		if heard.count("broken") == 0 {
			return errors.New("not said")
		}
		if list := a.List("vm1"); list[0].Phase != vmnetd.Attached || list[0].Link != "up" || list[0].Problem != "" {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}

func TestProcessThatCannotBeWaitedForIsLookedAtAgain(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	owner := sleeper(t)
	att := opened(t, h, owner.Process.Pid)
	a.owners.drop(key{"vm1", att.ID})
	h.w.Release(owner.Process.Pid)
	_ = owner.Process.Kill()
	_ = owner.Wait()
	a.ownerEnded(key{"vm1", att.ID}, errors.New("too many open files"))
	eventually(t, "looked at again", func() error { return h.clean("vm1") })
}

// left is a device with a mark of ours, up, that no state file names.
func (h *host) left(mode vmnetd.Mode, uplink string) tapdev.Device {
	mac, _ := vmnetd.ParseMAC("02:00:00:00:00:77")
	return h.w.PutDevice(tapdev.Device{VM: "vm1", ID: "net0", Ifname: vmnetd.Ifname("vm1", "net0"), Mode: mode, MAC: mac, MTU: 1500, Queues: 1, Up: true}, uplink)
}

func TestDeviceOfWhichNoHolderIsKnownForCertainStays(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	dev := h.left(vmnetd.Bridge, "u0")
	h.incomplete(true)
	a := h.start()
	if list := a.List("vm1"); len(list) != 1 || list[0].Problem == "" || list[0].Network != "lan" {
		t.Errorf("%+v", list)
	}
	owner := sleeper(t)
	h.w.Hold(owner.Process.Pid, dev.Ifindex)
	h.incomplete(false)
	eventually(t, "found", func() error {
		if list := a.List("vm1"); list[0].Phase != vmnetd.Attached || list[0].Problem != "" {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	h.w.Release(owner.Process.Pid)
	_ = owner.Process.Kill()
	eventually(t, "ended", func() error { return h.clean("vm1") })
}

func TestAdoptedPassthruGivesTheUplinkItsOwnMACBack(t *testing.T) {
	w := newWorld()
	w.StartVM("fw1")
	h := newHost(t, w, testConfig())
	attach(t, h.start(), passthruReq)
	h.halt()
	if err := os.Remove(h.dir + "/state.json"); err != nil {
		t.Fatal(err)
	}
	a := h.start()
	if list := a.List("fw1"); len(list) != 1 || list[0].Phase != vmnetd.Attached {
		t.Fatalf("adopted as %+v", list)
	}
	if _, err := a.Detach(t.Context(), Caller{}, "fw1", Selector{}); err != nil {
		t.Fatal(err)
	}
	if err := h.clean("fw1"); err != nil {
		t.Error(err)
	}
}

func TestAdoptedOnADeviceThatIsNoUplinkStaysAsItIs(t *testing.T) {
	w := newWorld()
	w.AddUplink("foreign", "02:00:00:00:00:0f")
	h := newHost(t, w, testConfig())
	dev := h.left(vmnetd.Bridge, "foreign")
	owner := sleeper(t)
	w.Hold(owner.Process.Pid, dev.Ifindex)
	a := h.start()
	if list := a.List("vm1"); len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Uplink != "" || list[0].Problem != "" {
		t.Errorf("%+v", list)
	}
	w.DeleteDevice(dev.Ifname)
	eventually(t, "said", func() error {
		if list := a.List("vm1"); list[0].Phase != vmnetd.Broken {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}

func TestDeviceThatCannotBeRemovedAtTheStartKeepsNobodyFromWork(t *testing.T) {
	w := newWorld()
	w.StartVM("vm2")
	h := newHost(t, w, testConfig())
	h.left(vmnetd.Bridge, "u0")
	w.Refuse("Remove", 1)
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm2", ID: "net0"})
	if err := h.works("vm2", "net0"); err != nil {
		t.Error(err)
	}
}
