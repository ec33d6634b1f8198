package agent

import (
	"fmt"
	"testing"

	"github.com/vmnetd/vmnetd"
)

// guardedVMs is a host with so many VMs, each of which has a NIC with a filter.
func guardedVMs(t *testing.T, n int) (*host, []vmnetd.Attachment) {
	t.Helper()
	w := newWorld()
	h := newHost(t, w, testConfig())
	a := h.start()
	var atts []vmnetd.Attachment
	for i := range n {
		vm := fmt.Sprintf("guarded%d", i)
		w.StartVM(vm)
		atts = append(atts, attach(t, a, vmnetd.Request{VM: vm}))
	}
	return h, atts
}

// restored fails until every filter is back.
func (h *host) restored(atts []vmnetd.Attachment) error {
	for _, att := range atts {
		if _, ok := h.w.Guard("", att.Ifname); !ok {
			return fmt.Errorf("%s has none", att.Ifname)
		}
	}
	return nil
}

func TestAllFiltersComeBackTogetherEachWithItsEvent(t *testing.T) {
	h, atts := guardedVMs(t, 5)
	told := h.subscribe()
	h.w.Refuse("Guard", len(atts))
	h.w.FlushFilters()
	eventually(t, "back", func() error {
		if n := told.count("filter-restored"); n != len(atts) {
			return fmt.Errorf("told %d times", n)
		}
		return h.restored(atts)
	})
}

func TestFiltersThatCannotComeBackTogetherComeBackOneByOne(t *testing.T) {
	h, atts := guardedVMs(t, 3)
	h.w.Refuse("GuardAll", 1)
	h.w.FlushFilters()
	eventually(t, "back", func() error { return h.restored(atts) })
}

func TestAFilterThatChangesWhileAllComeBackIsTheNewOne(t *testing.T) {
	h, atts := guardedVMs(t, 1)
	no := false
	cfg := testConfig()
	for i := range cfg.Policy.Networks {
		cfg.Policy.Networks[i].Grant.Filter.RA = &no
	}
	inForce := func() error {
		if g, ok := h.w.Guard("", atts[0].Ifname); !ok || g.RA {
			return fmt.Errorf("%v %+v", ok, g)
		}
		return nil
	}
	h.w.At("GuardAll", 1, func() error {
		h.cfg.next = cfg
		if err := h.agent.Reload(t.Context()); err != nil {
			return err
		}
		eventually(t, "in force before the old one is put back", inForce)
		return nil
	})
	told := h.subscribe()
	h.w.FlushFilters()
	eventually(t, "the new one again", func() error {
		if told.count("filter-restored") == 0 {
			return fmt.Errorf("none is back")
		}
		return inForce()
	})
}

func TestAFilterOfANICThatGoesWhileAllComeBackDoesNotStay(t *testing.T) {
	h, atts := guardedVMs(t, 2)
	h.w.At("GuardAll", 1, func() error {
		_, err := h.agent.Detach(t.Context(), Caller{}, atts[0].VM, Selector{})
		return err
	})
	told := h.subscribe()
	h.w.FlushFilters()
	eventually(t, "gone", func() error {
		if _, ok := h.w.Guard("", atts[0].Ifname); ok || told.count("filter-restored") == 0 {
			return fmt.Errorf("it is there: %v", ok)
		}
		return h.restored(atts[1:])
	})
}

func TestANICInTroubleStaysFiltered(t *testing.T) {
	h, atts := guardedVMs(t, 1)
	inItsTurn(t, h.agent, key{atts[0].VM, atts[0].ID}, func(r *record) { r.Phase, r.Problem = vmnetd.Broken, "its guest does not answer" })
	h.w.Refuse("Plug", 1000)
	h.w.FlushFilters()
	eventually(t, "back", func() error { return h.restored(atts) })
	if now := h.agent.List(atts[0].VM)[0]; now.Phase != vmnetd.Broken {
		t.Errorf("%+v", now)
	}
	h.w.Refuse("Plug", 0)
}
