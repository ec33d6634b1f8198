package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestSubscribersNeverHearOfAnOlderStateLast(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	heard := h.subscribe()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	old, _ := a.store.get(key{"vm1", "net0"}) // as the follow loop reads it
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0"}); err != nil {
		t.Fatal(err)
	}
	a.changed(old)
	if att, ok := heard.attachment("vm1/net0"); ok {
		t.Errorf("a NIC that is no more was told of: %+v", att)
	}
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	old.Phase = vmnetd.Pending
	a.changed(old)
	if att, _ := heard.attachment("vm1/net0"); att.Phase != vmnetd.Attached || att.Link != "up" {
		t.Errorf("told last: %+v", att)
	}
}

func TestSubscriberHearsNothingOnceItStopped(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	var heard []string
	stop := a.Subscribe(func(c Change) {
		if c.Event != nil {
			heard = append(heard, c.Event.Event)
		}
	})
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	stop()
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(heard, "attached") || slices.Contains(heard, "detached") {
		t.Errorf("heard %v", heard)
	}
}

// incomplete has every search for holders miss some process.
func (h *host) incomplete(on bool) {
	n := 0
	if on {
		n = 1 << 30
	}
	h.w.Refuse("Holders", n)
}

func TestSearchThatIsNotCompleteRemovesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	h.incomplete(true)
	w.StopVM("vm1")
	eventually(t, "said", func() error {
		list := a.List("vm1")
		if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Problem == "" {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	h.incomplete(false)
	eventually(t, "complete again", func() error { return h.clean("vm1") })
}

func TestUndoThatFailsIsGoneOnWithByTheNextStart(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	w.At("SetUp", 1, func() error {
		w.SetStuck("vm1", true)
		return errors.New("no carrier for you")
	})
	if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: "net0"}); !contains(err, "no carrier for you") {
		t.Fatalf("attach: %v", err)
	}
	h.halt()
	a = h.start()
	if list := a.List("vm1"); len(list) != 1 || list[0].Phase != vmnetd.Detaching {
		t.Errorf("the start completed what its caller was told had failed: %+v", list)
	}
	w.SetStuck("vm1", false)
	eventually(t, "let go", func() error { return h.clean("vm1") })
}

func TestDeviceThatVanishesDuringADetachIsNoFailure(t *testing.T) {
	w := newWorld()
	w.StartVM("fw1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, passthruReq)
	for _, call := range []string{"SetUp", "RestoreMAC"} {
		w.At(call, 1, func() error {
			w.RemoveUplink("u1")
			w.DeleteDevice(att.Ifname)
			return nil
		})
		got, err := a.Detach(t.Context(), Caller{}, "fw1", Selector{})
		if err != nil || len(got) != 1 || got[0].Problem != "" {
			t.Errorf("%s: %+v, %v", call, got, err)
		}
		w.At(call, 0, nil)
		w.AddUplink("u1", "02:00:00:00:00:02")
		attach(t, a, passthruReq)
	}
}
