package hypervisor

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

func TestWhatANICWasGivenStandsInTheMetadataOfTheRun(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	says := func(what string, want ...domxml.NIC) {
		t.Helper()
		dom, err := domxml.Parse(b.Virsh("dumpxml", "vm1"))
		if err != nil {
			t.Fatal(err)
		}
		if len(dom.NICs) != len(want) || dom.Labels["tier"] != "gold" {
			t.Fatalf("%s: %+v, labels %v", what, dom.NICs, dom.Labels)
		}
		for i, n := range want {
			if dom.NICs[i] != n {
				t.Errorf("%s: %+v, want %+v", what, dom.NICs, want)
			}
		}
	}
	one, two := b.device("net0", 1), b.device("net1", 1)
	one.Network, one.Mode, two.Network, two.Mode = "lan", "bridge", "data", "private"
	given := func(n NIC) domxml.NIC {
		return domxml.NIC{MAC: n.MAC.String(), ID: n.ID, Network: n.Network, Mode: n.Mode}
	}
	plug := func(nic NIC) {
		t.Helper()
		if _, err := b.l.Plug(t.Context(), vm, nic); err != nil {
			t.Fatal(err)
		}
	}
	entered := func(nic NIC) { // that waits for what goes on beside
		t.Helper()
		if _, ok, err := b.l.Plugged(t.Context(), vm, nic); err != nil || !ok {
			t.Fatalf("%s is plugged: %v, %v", nic.ID, ok, err)
		}
	}
	plug(one) // one after the other, before an event of the first can have come
	plug(two)
	entered(two)
	says("two plugged", given(one), given(two))
	n := b.seen.count()
	b.Virsh("metadata", "vm1", domxml.NS, "--live", "--key", "vmnetd", "--set", "<nics><label name='tier' value='gold'/></nics>")
	b.seen.wait(t, n, "that they were taken out", func(Sighting) bool { return len(b.find("vm1").NICs) == 0 })
	plug(two)
	says("found plugged", given(two))
	for _, nic := range []NIC{one, two} {
		if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
			t.Fatal(err)
		}
	}
	says("both unplugged")
	if text := b.Virsh("dumpxml", "vm1"); strings.Contains(text, "custom-monitor") {
		t.Error(text)
	}
	adopted := b.device("net2", 1) // whose network is not known
	plug(adopted)
	entered(adopted)
	says("of unknown network")
	if err := b.l.Unplug(t.Context(), vm, adopted); err != nil {
		t.Fatal(err)
	}
}

// TestASecondNICOfOneMACIsRefused: guests of ipvtaps have their uplink's.
func TestASecondNICOfOneMACIsRefused(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	one, two := b.device("net0", 1), b.device("net1", 1)
	one.Network, two.Network, two.MAC = "lan", "data", one.MAC
	if _, err := b.l.Plug(t.Context(), vm, one); err != nil {
		t.Fatal(err)
	}
	if _, err := b.l.Plug(t.Context(), vm, two); !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), one.MAC.String()) {
		t.Errorf("a second one: %v", err)
	}
	if err := b.l.Unplug(t.Context(), vm, two); err != nil {
		t.Error(err)
	}
	if _, ok, err := b.l.Plugged(t.Context(), vm, one); err != nil || !ok {
		t.Errorf("the first is plugged: %v, %v", ok, err)
	}
	dom, err := domxml.Parse(b.Virsh("dumpxml", "vm1"))
	if err != nil || len(dom.NICs) != 1 || dom.NICs[0].ID != "net0" {
		t.Errorf("metadata %+v, %v", dom.NICs, err)
	}
}
