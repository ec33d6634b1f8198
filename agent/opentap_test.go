package agent

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

// sleeper is a process that lives until it is killed.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func claim(t *testing.T, h *host, token []byte, pid int) (func(error) (vmnetd.Attachment, error), error) {
	t.Helper()
	owner, err := h.agent.ownerOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	var set *queuefd.Set
	set, done, err := h.agent.Claim(t.Context(), token, owner)
	if err != nil {
		return nil, err
	}
	return done, set.Close()
}

// opened gives a process a NIC by fd.
func opened(t *testing.T, h *host, pid int) vmnetd.Attachment {
	t.Helper()
	att, token, err := h.agent.OpenTap(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", Via: "exec"})
	if err != nil || len(token) != 32 || att.Phase != vmnetd.Pending {
		t.Fatalf("OpenTap = %+v, %d bytes, %v", att, len(token), err)
	}
	done, err := claim(t, h, token, pid)
	if err != nil {
		t.Fatal(err)
	}
	h.w.Hold(pid, att.Ifindex)
	att, err = done(nil)
	if err != nil || att.Phase != vmnetd.Attached || att.Link != "up" || att.Via != "exec" {
		t.Fatalf("claimed: %+v, %v", att, err)
	}
	return att
}

func TestNICByFDLivesAsLongAsItsOwner(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	owner := sleeper(t)
	opened(t, h, owner.Process.Pid)
	h.halt()
	h.start()
	if list := h.agent.List("vm1"); len(list) != 1 || list[0].Phase != vmnetd.Attached {
		t.Fatalf("after a restart of the daemon: %+v", list)
	}
	h.w.Release(owner.Process.Pid)
	_ = owner.Process.Kill()
	eventually(t, "owner killed", func() error { return h.clean("vm1") })
}

func TestQueuesThatAChildHoldsAreFollowed(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	parent, child := sleeper(t), sleeper(t)
	att := opened(t, h, parent.Process.Pid)
	h.w.Hold(child.Process.Pid, att.Ifindex)
	h.w.Release(parent.Process.Pid)
	_ = parent.Process.Kill()
	_ = parent.Wait()
	eventually(t, "the parent has ended", func() error {
		if r, ok := h.agent.store.get(key{"vm1", att.ID}); !ok || r.Owner == nil || r.Owner.PID != child.Process.Pid {
			return errors.New("the child is not the owner")
		}
		return nil
	})
	if list := h.agent.List("vm1"); len(list) != 1 || list[0].Phase != vmnetd.Attached {
		t.Errorf("%+v", list)
	}
	h.w.Release(child.Process.Pid)
	_ = child.Process.Kill()
	eventually(t, "the child has ended", func() error { return h.clean("vm1") })
}

func TestTokenIsGoodOnce(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	owner := sleeper(t)
	att, token, err := h.agent.OpenTap(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"})
	if err != nil {
		t.Fatal(err)
	}
	done, err := claim(t, h, token, owner.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(t, h, token, owner.Process.Pid); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("second claim: %v", err)
	}
	if _, err := claim(t, h, []byte("guess"), owner.Process.Pid); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("a guess: %v", err)
	}
	if _, err := done(errors.New("the owner hung up")); err == nil {
		t.Error("a claim that did not arrive ended well")
	}
	eventually(t, "not delivered", func() error { return h.clean(att.VM) })
}

func TestOfferThatNobodyClaimsIsUndoneAtTheRestart(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	a := h.start()
	if _, _, err := a.OpenTap(t.Context(), Caller{}, vmnetd.Request{VM: "vm1"}); err != nil {
		t.Fatal(err)
	}
	h.halt()
	h.start()
	eventually(t, "nobody came", func() error { return h.clean("vm1") })
}

func TestOpenTapOfANICThatIsThereIsBusy(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	att := opened(t, h, sleeper(t).Process.Pid)
	if _, _, err := h.agent.OpenTap(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: att.ID}); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("%v", err)
	}
}

func TestOwnerLearnsThatItsDeviceHasGone(t *testing.T) {
	h := newHost(t, newWorld(), testConfig())
	h.start()
	att := opened(t, h, sleeper(t).Process.Pid)
	h.w.DeleteDevice(att.Ifname)
	eventually(t, "device deleted", func() error {
		list := h.agent.List("vm1")
		if len(list) != 1 || list[0].Phase != vmnetd.Broken || list[0].Problem == "" {
			return errors.New("not said")
		}
		return nil
	})
	if got, err := h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{}); err != nil || len(got) != 1 {
		t.Errorf("detach = %+v, %v", got, err)
	}
}

func TestCallerThatGivesUpDoesNotCancel(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Attach(gone, Caller{}, vmnetd.Request{VM: "vm1", ID: "net0"}); err != nil && !errors.Is(err, vmnetd.ErrBusy) {
		t.Fatal(err)
	}
	eventually(t, "attach goes on", func() error { return h.works("vm1", "net0") })
}
