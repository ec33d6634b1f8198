package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

func TestLibvirtPlugsAndUnplugsByName(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	for _, queues := range []int{1, 4} {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			nic := b.device(fmt.Sprintf("net%d", queues), queues)
			begin := time.Now()
			place, err := b.l.Plug(t.Context(), vm, nic)
			if err != nil || place.Already || !strings.Contains(place.NoVHost, "type qemu") {
				t.Fatalf("Plug: %+v, %v", place, err)
			}
			t.Logf("Plug took %v", time.Since(begin))
			if !b.has("vm1", nic.Ifname) {
				t.Error("libvirt has no such NIC")
			}
			if text := b.netdevs("vm1"); strings.Count(text, "\\ hostnet")+strings.Count(text, "index=") < queues {
				t.Errorf("QEMU has %s", text)
			}
			again, err := b.l.Plug(t.Context(), vm, nic)
			if err != nil || !again.Already || again.NoVHost != place.NoVHost {
				t.Errorf("once more: %+v, %v", again, err)
			}
			if at, ok, err := b.l.Plugged(t.Context(), vm, nic); err != nil || !ok || at.Addr == "" {
				t.Errorf("Plugged: %+v, %v, %v", at, ok, err)
			}
			begin = time.Now()
			if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
				t.Fatalf("Unplug: %v", err)
			}
			t.Logf("Unplug took %v", time.Since(begin))
			if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
				t.Errorf("once more: %v", err)
			}
			if _, ok, err := b.l.Plugged(t.Context(), vm, nic); ok || err != nil {
				t.Errorf("it is still plugged: %v", err)
			}
			if text := b.netdevs("vm1"); strings.TrimSpace(text) != "" {
				t.Errorf("QEMU still has %s", text)
			}
			if !strings.HasPrefix(b.ns.Link(t, nic.Ifname).Name, "vmn") {
				t.Error("libvirt deleted the device")
			}
		})
	}
	nic := b.device("net9", 1)
	nic.Addr = "0000:02:00.0"
	if place, err := b.l.Plug(t.Context(), vm, nic); err != nil || place.Addr != nic.Addr {
		t.Errorf("at a place of ours: %+v, %v", place, err)
	}
	other := b.device("net10", 1)
	other.Addr = nic.Addr
	if _, err := b.l.Plug(t.Context(), vm, other); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("at a place that is taken: %v", err)
	}
}

func TestAPlugThatFailsLeavesNothing(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	nic := b.device("net0", 1)
	clean := func(what string) {
		t.Helper()
		if text := b.netdevs("vm1"); strings.TrimSpace(text) != "" || slices.Contains(b.find("vm1").Ifnames, nic.Ifname) {
			t.Errorf("%s: left %s", what, text)
		}
	}
	none := nic
	none.Ifname = "vmnabsent0"
	if _, err := b.l.Plug(t.Context(), vm, none); !errors.Is(err, vmnetd.ErrFailed) || !strings.Contains(err.Error(), "vmnabsent0") || strings.Contains(err.Error(), "\n") {
		t.Errorf("without its device: %v", err)
	}
	clean("without its device")
	withBus, inSlot := nic, nic
	withBus.Bus, inSlot.Addr = "rp1", "5"
	for _, odd := range []NIC{withBus, inSlot} {
		if place, err := b.l.Plug(t.Context(), vm, odd); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("bus %q, addr %q: %+v, %v", odd.Bus, odd.Addr, place, err)
		}
	}
	b.l.hit = func(p failpoint.Point) error {
		if p == failpoint.HandoverDevice {
			return errProvoked
		}
		return nil
	}
	if _, err := b.l.Plug(t.Context(), vm, nic); !errors.Is(err, errProvoked) {
		t.Errorf("a failure of ours: %v", err)
	}
	clean("a failure of ours")
	b.l.hit = failpoint.Set{}.Hit
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := b.l.Plug(ctx, vm, nic); err == nil {
		t.Log("libvirt was faster than 5 ms")
		if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
			t.Error(err)
		}
	}
	clean("a caller who went")
}

func TestAVMWithoutAFreePortIsBusy(t *testing.T) {
	b := newLvBed(t)
	n := b.seen.count()
	b.Virsh("create", "--paused", b.file(lvXMLOf("vm1", 1, "")))
	vm := b.whole(n, "vm1")
	var err error
	nics := []NIC{b.device("net0", 1), b.device("net1", 1), b.device("net2", 1)}
	for _, nic := range nics {
		if _, err = b.l.Plug(t.Context(), vm, nic); err != nil {
			break
		}
	}
	if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(vmnetd.NextOf(err), "pcie-root-port") {
		t.Errorf("%v, next %q", err, vmnetd.NextOf(err))
	}
	var full bool
	for _, c := range b.l.Doctor(t.Context()) {
		full = full || c.Name == "VM vm1" && c.Level == vmnetd.LevelWarn && strings.Contains(c.Text, "no free PCIe port")
	}
	if !full {
		t.Errorf("doctor: %+v", b.l.Doctor(t.Context()))
	}
}

func TestAnotherRunIsNotTouched(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	nic := b.device("net0", 1)
	b.Virsh("destroy", "vm1")
	if _, err := b.l.Plug(t.Context(), vm, nic); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("a VM that ended: %v", err)
	}
	if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
		t.Errorf("unplug from a VM that ended: %v", err)
	}
	text := strings.Replace(lvXMLOf("vm1", 3, ""), "<name>", "<uuid>"+vm.UUID+"</uuid><name>", 1)
	n := b.seen.count()
	b.Virsh("create", "--paused", b.file(text))
	now := b.whole(n, "vm1")
	if _, err := b.l.Plug(t.Context(), vm, nic); !errors.Is(err, ErrOtherRun) || !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("the run before: %v", err)
	}
	if _, err := b.l.Plug(t.Context(), now, nic); err != nil {
		t.Fatal(err)
	}
	if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
		t.Errorf("unplug from the run before: %v", err)
	}
	if !b.has("vm1", nic.Ifname) {
		t.Error("the NIC of this run has gone")
	}
}

func TestAGuestThatDoesNotLetGoIsEjecting(t *testing.T) {
	b := newLvBed(t, Limits{Eject: 300 * time.Millisecond})
	n := b.seen.count()
	b.Virsh("create", "--paused", b.file(strings.Replace(lvXMLOf("vm1", 3, ""), "bridge-support=off", "bridge-support=on", 1)))
	vm := b.whole(n, "vm1")
	nic := b.device("net0", 1)
	if _, err := b.l.Plug(t.Context(), vm, nic); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		within(t, 5*time.Second, "Unplug", func() { // asked by the element, libvirt itself would wait that long
			if err := b.l.Unplug(t.Context(), vm, nic); !errors.Is(err, ErrEjecting) || !errors.Is(err, vmnetd.ErrBusy) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	b.Virsh("destroy", "vm1")
	if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
		t.Errorf("after its end: %v", err)
	}
}

func TestWhatOthersDoWithVirshIsSeen(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	nic := b.device("net0", 1)
	n := b.seen.count()
	b.Virsh("attach-device", "vm1", b.file(nicElement(nic).XML()))
	b.seen.wait(t, n, "the attach", func(s Sighting) bool {
		return isVM("vm1", true)(s) && slices.Contains(b.find("vm1").Ifnames, nic.Ifname)
	})
	n = b.seen.count()
	b.Virsh("detach-device", "vm1", b.file(nicElement(nic).XML()))
	b.seen.wait(t, n, "the detach", func(s Sighting) bool {
		return isVM("vm1", true)(s) && !slices.Contains(b.find("vm1").Ifnames, nic.Ifname)
	})
	if err := b.l.Unplug(t.Context(), vm, nic); err != nil {
		t.Error(err)
	}
}

func TestLibvirtSetsTheLink(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	nic := b.device("net0", 4)
	if err := b.l.SetLink(t.Context(), vm, nic, false); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("no such NIC: %v", err)
	}
	if _, err := b.l.Plug(t.Context(), vm, nic); err != nil {
		t.Fatal(err)
	}
	for _, up := range []bool{true, false, false, true} {
		if err := b.l.SetLink(t.Context(), vm, nic, up); err != nil {
			t.Fatalf("to %v: %v", up, err)
		}
		if says := b.Virsh("domif-getlink", "vm1", nic.Ifname); strings.Contains(says, "down") == up {
			t.Errorf("to %v: %s", up, says)
		}
	}
}

func TestLibvirtOpensVhostNetForSomeDomainsOnly(t *testing.T) {
	for _, c := range []struct{ domain, driver, why string }{
		{"kvm", "", ""},
		{"kvm", "vhost", ""},
		{"kvm", "qemu", "<driver name='qemu'>"},
		{"qemu", "", "type qemu"},
	} {
		d := lvDomain{xml: &domxml.Domain{Type: c.domain}}
		if got := d.placeOf(domxml.Interface{Driver: c.driver}).NoVHost; !strings.Contains(got, c.why) || (got == "") != (c.why == "") {
			t.Errorf("type %s, driver %q: %q", c.domain, c.driver, got)
		}
	}
}
