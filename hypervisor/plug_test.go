package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// machines are those that a NIC is plugged into in the tests.
var machines = []testkit.QEMUOptions{
	{Machine: "q35", RootPorts: 2},
	{Machine: "pc"},
}

func TestPlugHandsOverEveryQueue(t *testing.T) {
	for _, machine := range machines {
		for _, queues := range []int{1, 2, 4, 8} {
			t.Run(fmt.Sprintf("%s/%d", machine.Machine, queues), func(t *testing.T) {
				q, dir := newQMP(t, Limits{})
				machine := machine
				machine.QMPDir = dir
				guest := testkit.StartQEMU(t, machine)
				vm := find(t, q, guest.Name)

				place, err := q.Plug(t.Context(), vm, nic(t, "net0", queues))
				if err != nil {
					t.Fatal(err)
				}
				if n := tapsOf(guest.PID); n != queues {
					t.Errorf("QEMU holds %d queues, want %d", n, queues)
				}
				if place.Bus == "" || place.Addr == "" || place.Already {
					t.Errorf("place = %+v", place)
				}
				checkDevice(t, guest, "net0", queues)
				again, ok, err := q.Plugged(t.Context(), vm, NIC{ID: "net0"})
				if err != nil || !ok || again.Bus != place.Bus || again.Addr != place.Addr {
					t.Errorf("Plugged = %+v, %v, %v, want %+v", again, ok, err, place)
				}
				if _, ok, err := q.Plugged(t.Context(), vm, NIC{ID: "net1"}); ok || err != nil {
					t.Errorf("Plugged(net1) = %v, %v", ok, err)
				}
			})
		}
	}
}

func checkDevice(t *testing.T, guest *testkit.QEMU, id string, queues int) {
	t.Helper()
	for property, want := range map[string]string{
		"mac": `"52:54:00:01:02:03"`, "host_mtu": "1400", "mq": fmt.Sprint(queues > 1),
	} {
		if got := guest.QMP("qom-get", map[string]string{"path": peripheral + "/vmn-" + id, "property": property}); string(got) != want {
			t.Errorf("%s = %s, want %s", property, got, want)
		}
	}
	if queues > 1 {
		want := fmt.Sprint(2*queues + 2)
		if got := guest.QMP("qom-get", map[string]string{"path": peripheral + "/vmn-" + id, "property": "vectors"}); string(got) != want {
			t.Errorf("vectors = %s, want %s", got, want)
		}
	}
	if _, netdevs := inside(t, guest, id); len(netdevs) != 1 {
		t.Errorf("netdevs = %v, want one", netdevs)
	}
}

func TestPlugTwiceIsFineAndOpensNothing(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	vm := find(t, q, guest.Name)
	card := nic(t, "net0", 1)
	first, err := q.Plug(t.Context(), vm, card)
	if err != nil {
		t.Fatal(err)
	}
	card.Open = func(context.Context) (*queuefd.Set, error) { return nil, errProvoked }
	again, err := q.Plug(t.Context(), vm, card)
	if err != nil || !again.Already || again.Bus != first.Bus || again.Addr != first.Addr {
		t.Errorf("second Plug = %+v, %v, want %+v", again, err, first)
	}
}

func TestFailureAtAnyStepLeavesNothing(t *testing.T) {
	for _, machine := range machines {
		for _, point := range []failpoint.Point{failpoint.HandoverOpened, failpoint.HandoverGetfd, failpoint.HandoverNetdev} {
			t.Run(machine.Machine+"/"+string(point), func(t *testing.T) {
				q, dir := newQMP(t, Limits{})
				machine := machine
				machine.QMPDir = dir
				guest := testkit.StartQEMU(t, machine)
				vm := find(t, q, guest.Name)
				q.at(point, func() error { return errProvoked })
				card := nic(t, "net0", 4)
				before := len(testkit.OpenFDs())
				if _, err := q.Plug(t.Context(), vm, card); !errors.Is(err, errProvoked) {
					t.Fatalf("Plug = %v", err)
				}
				if after := len(testkit.OpenFDs()); after != before {
					t.Errorf("%d descriptors are open, %d before", after, before)
				}
				clean(t, guest, "net0")
				q.hit = failpoint.Set(nil).Hit
				if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 2)); err != nil {
					t.Errorf("Plug after the failure: %v", err)
				}
			})
		}
	}
}

func TestFailureAfterDeviceAddSaysThatTheGuestMustEject(t *testing.T) {
	q, dir := newQMP(t, Limits{Eject: hastily.Eject})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	vm := find(t, q, guest.Name)
	q.at(failpoint.HandoverDevice, func() error { return errProvoked })
	_, err := q.Plug(t.Context(), vm, nic(t, "net0", 1))
	if !errors.Is(err, errProvoked) || !errors.Is(err, ErrEjecting) {
		t.Fatalf("Plug = %v, want what was provoked and ErrEjecting", err)
	}
	// The NIC is in the guest's hands, so its netdev must still be whole.
	if device, netdevs := inside(t, guest, "net0"); !device || len(netdevs) != 1 {
		t.Errorf("device %v, netdevs %v", device, netdevs)
	}
	if n := tapsOf(guest.PID); n != 1 {
		t.Errorf("QEMU holds %d queues, want 1", n)
	}
}

func TestQEMUThatRefusesLeavesNothing(t *testing.T) {
	for name, spoil := range map[string]func(*NIC){
		"netdev_add": func(n *NIC) { n.Open = notTaps(2) },
		"device_add": func(n *NIC) { n.Bus, n.Addr = "rp1", "0x0" }, // it is taken
	} {
		t.Run(name, func(t *testing.T) {
			q, dir := newQMP(t, Limits{})
			guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 2, QMPDir: dir, Args: []string{"-device", "virtio-rng-pci,bus=rp1"}})
			vm := find(t, q, guest.Name)
			card := nic(t, "net0", 2)
			spoil(&card)
			_, err := q.Plug(t.Context(), vm, card)
			var refused *Error
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), name) {
				t.Fatalf("Plug = %v, want an error reply to %s", err, name)
			}
			clean(t, guest, "net0")
		})
	}
}

// notTaps opens descriptors that are no tap queues.
func notTaps(n int) func(context.Context) (*queuefd.Set, error) {
	return func(context.Context) (*queuefd.Set, error) {
		set := &queuefd.Set{}
		for range n {
			fd, err := dup(0)
			if err != nil {
				return set, err
			}
			set.Queues = append(set.Queues, fd)
		}
		return set, nil
	}
}

func TestWhatACrashLeftIsSweptBeforeTheNextPlug(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	vm := find(t, q, guest.Name)
	leaveHalf(t, q, vm, "net0", 4, true)
	leaveHalf(t, q, vm, "net0", 4, false)
	leaveHalf(t, q, vm, "net0.00000000", 1, true) // another NIC, whose name looks alike
	if n := tapsOf(guest.PID); n != 9 {
		t.Fatalf("QEMU holds %d queues before, want 9", n)
	}
	if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 1)); err != nil {
		t.Fatal(err)
	}
	if _, netdevs := inside(t, guest, "net0"); len(netdevs) != 1 {
		t.Errorf("netdevs = %v, want one", netdevs)
	}
	if _, netdevs := inside(t, guest, "net0.00000000"); len(netdevs) != 1 {
		t.Errorf("the other NIC's netdevs = %v, want one", netdevs)
	}
	if n := tapsOf(guest.PID); n != 2 {
		t.Errorf("QEMU holds %d queues, want 2", n)
	}
}

// leaveHalf hands queues over as a daemon does that is killed before
// device_add, or before netdev_add.
func leaveHalf(t *testing.T, q *QMP, vm VM, id string, queues int, netdev bool) {
	t.Helper()
	l, err := q.enter(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	card := nic(t, id, queues)
	set, err := card.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	h := &handover{e: l.engine, nic: card, set: set, netdev: newNetdevID(id)}
	if err := h.sendFDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if netdev {
		if err := h.addNetdev(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSeveralNICsTakeSeveralPlaces(t *testing.T) {
	for _, machine := range []testkit.QEMUOptions{
		{Machine: "q35", RootPorts: 3},
		{Machine: "pc", Args: []string{"-device", "pci-bridge,id=pci.1,chassis_nr=1"}},
	} {
		t.Run(machine.Machine, func(t *testing.T) {
			q, dir := newQMP(t, Limits{})
			machine := machine
			machine.QMPDir = dir
			guest := testkit.StartQEMU(t, machine)
			vm := find(t, q, guest.Name)
			seen := map[Place]bool{}
			for i := range 3 {
				place, err := q.Plug(t.Context(), vm, nic(t, fmt.Sprintf("net%d", i), 1))
				if err != nil {
					t.Fatal(err)
				}
				if seen[place] {
					t.Errorf("two NICs at %+v", place)
				}
				seen[place] = true
			}
		})
	}
}

func TestNoFreePlaceSaysWhatToAdd(t *testing.T) {
	for _, c := range []struct {
		name    string
		options testkit.QEMUOptions
		next    string
	}{
		{"q35 without ports", testkit.QEMUOptions{}, "-device pcie-root-port,id=rp1,chassis=1"},
		{"q35, all taken", testkit.QEMUOptions{RootPorts: 2, Args: []string{"-device", "virtio-rng-pci,bus=rp0", "-device", "virtio-rng-pci,bus=rp1"}}, "-device pcie-root-port,id=rp2,chassis=3"},
		{"q35, a port without an id", testkit.QEMUOptions{Args: []string{"-device", "pcie-root-port,chassis=4"}}, "-device pcie-root-port,id=rp1,chassis=5"},
		{"q35, hotplug off", testkit.QEMUOptions{Args: []string{"-device", "pcie-root-port,id=rp1,chassis=7,hotplug=off"}}, "-device pcie-root-port,id=rp2,chassis=8"},
		{"pc, all taken", testkit.QEMUOptions{Machine: "pc", Args: fill("pci.0", 2, 31)}, "-device pci-bridge,id=pci.1,chassis_nr=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, dir := newQMP(t, Limits{})
			c.options.QMPDir = dir
			guest := testkit.StartQEMU(t, c.options)
			card := nic(t, "net0", 1)
			card.Open = func(context.Context) (*queuefd.Set, error) {
				t.Error("queues were opened without a place for them")
				return nil, errProvoked
			}
			_, err := q.Plug(t.Context(), find(t, q, guest.Name), card)
			if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(vmnetd.NextOf(err), c.next) {
				t.Errorf("Plug = %v, next %q, want %q", err, vmnetd.NextOf(err), c.next)
			}
		})
	}
}

// fill takes slots of a bus.
func fill(bus string, first, last int) []string {
	var args []string
	for slot := first; slot <= last; slot++ {
		args = append(args, "-device", fmt.Sprintf("virtio-rng-pci,bus=%s,addr=0x%x", bus, slot))
	}
	return args
}

func TestPlaceIsTheFirstFreeOneOrTheOneAskedFor(t *testing.T) {
	bridged := []string{"-device", "pci-bridge,id=br,chassis_nr=3"}
	for _, c := range []struct {
		name      string
		options   testkit.QEMUOptions
		bus, addr string
		want      Place
		fails     error
	}{
		{"first port", testkit.QEMUOptions{RootPorts: 3}, "", "", Place{Bus: "rp0", Addr: "0x0"}, nil},
		{"first free port, before the firmware numbered the buses", testkit.QEMUOptions{RootPorts: 3, Args: []string{"-device", "virtio-rng-pci,bus=rp0"}}, "", "", Place{Bus: "rp1", Addr: "0x0"}, nil},
		{"a bridge on q35", testkit.QEMUOptions{Args: bridged}, "", "", Place{Bus: "br", Addr: "0x1"}, nil},
		{"free slot of pci.0", testkit.QEMUOptions{Machine: "pc", Args: fill("pci.0", 2, 4)}, "", "", Place{Bus: "pci.0", Addr: "0x5"}, nil},
		{"pci.0 full, a bridge left", testkit.QEMUOptions{Machine: "pc", Args: append(bridged, fill("pci.0", 3, 31)...)}, "", "", Place{Bus: "br", Addr: "0x1"}, nil},
		{"bus asked for", testkit.QEMUOptions{RootPorts: 3}, "rp2", "", Place{Bus: "rp2", Addr: "0x0"}, nil},
		{"bus and slot asked for", testkit.QEMUOptions{Machine: "pc"}, "pci.0", "0x1d", Place{Bus: "pci.0", Addr: "0x1d"}, nil},
		{"slot 0 of a port", testkit.QEMUOptions{RootPorts: 1}, "rp0", "00.0", Place{Bus: "rp0", Addr: "00.0"}, nil},
		{"another slot of a port, where no guest looks", testkit.QEMUOptions{RootPorts: 1}, "rp0", "0x5", Place{}, vmnetd.ErrInvalid},
		{"no such bus", testkit.QEMUOptions{RootPorts: 1}, "rp7", "", Place{}, vmnetd.ErrInvalid},
		{"a taken port", testkit.QEMUOptions{RootPorts: 1, Args: []string{"-device", "virtio-rng-pci,bus=rp0"}}, "rp0", "", Place{}, vmnetd.ErrBusy},
		{"a slot without a bus", testkit.QEMUOptions{RootPorts: 1}, "", "0x1", Place{}, vmnetd.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, dir := newQMP(t, Limits{})
			c.options.QMPDir = dir
			guest := testkit.StartQEMU(t, c.options)
			card := nic(t, "net0", 1)
			card.Bus, card.Addr = c.bus, c.addr
			place, err := q.Plug(t.Context(), find(t, q, guest.Name), card)
			if !errors.Is(err, c.fails) || place != c.want {
				t.Fatalf("Plug = %+v, %v, want %+v, %v", place, err, c.want, c.fails)
			}
			if err == nil {
				checkDevice(t, guest, "net0", 1)
			}
		})
	}
}

func TestQEMUKilledBetweenAnyTwoSteps(t *testing.T) {
	for _, point := range []failpoint.Point{failpoint.HandoverOpened, failpoint.HandoverGetfd, failpoint.HandoverNetdev, failpoint.HandoverDevice} {
		t.Run(string(point), func(t *testing.T) {
			q, dir := newQMP(t, Limits{})
			guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
			vm := find(t, q, guest.Name)
			q.at(point, func() error { guest.Kill(); return nil })
			within(t, longEnough, "Plug", func() {
				_, err := q.Plug(t.Context(), vm, nic(t, "net0", 2))
				if point == failpoint.HandoverDevice {
					return // all was done when it died
				}
				if !errors.Is(err, vmnetd.ErrNotFound) {
					t.Errorf("Plug = %v, want ErrNotFound", err)
				}
			})
			if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
				t.Errorf("Unplug from a VM that has gone: %v", err)
			}
		})
	}
}

func TestFrozenQEMUEndsInAClearError(t *testing.T) {
	for _, point := range []failpoint.Point{"", failpoint.HandoverOpened, failpoint.HandoverGetfd, failpoint.HandoverNetdev} {
		t.Run("at "+string(point), func(t *testing.T) {
			q, dir := newQMP(t, Limits{})
			guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
			vm := find(t, q, guest.Name)
			if point == "" {
				guest.Stop()
			}
			q.at(point, func() error { guest.Stop(); return nil })
			within(t, longEnough, "Plug", func() {
				_, err := q.Plug(t.Context(), vm, nic(t, "net0", 2))
				if err == nil || !strings.Contains(err.Error(), "is stopped and answers nothing") || !strings.Contains(vmnetd.NextOf(err), "kill -CONT") {
					t.Errorf("Plug = %v, next %q", err, vmnetd.NextOf(err))
				}
			})
			guest.Cont()
			q.hit = failpoint.Set(nil).Hit
			place, err := q.Plug(t.Context(), vm, nic(t, "net0", 2))
			if err != nil {
				t.Fatalf("Plug after it went on: %v", err)
			}
			// The device_add that was not answered in time may have been done.
			if _, netdevs := inside(t, guest, "net0"); len(netdevs) != 1 {
				t.Errorf("netdevs = %v, want one (%+v)", netdevs, place)
			}
		})
	}
}

func TestCallerThatGivesUpLeavesNothing(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	vm := find(t, q, guest.Name)
	ctx, cancel := context.WithCancel(t.Context())
	q.at(failpoint.HandoverNetdev, func() error { cancel(); return nil })
	if _, err := q.Plug(ctx, vm, nic(t, "net0", 2)); !errors.Is(err, context.Canceled) {
		t.Fatalf("Plug = %v", err)
	}
	clean(t, guest, "net0")
}

func TestPlugRefusesQueuesThatDoNotMatch(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	vm := find(t, q, guest.Name)
	card := nic(t, "net0", 2)
	open := card.Open
	card.Open = func(ctx context.Context) (*queuefd.Set, error) {
		set, err := open(ctx)
		if fd, dupErr := dup(0); err == nil && dupErr == nil {
			set.VHost = []int{fd} // one for two queues: QEMU would abort
		}
		return set, err
	}
	if _, err := q.Plug(t.Context(), vm, card); err == nil {
		t.Error("Plug took one vhost descriptor for two queues")
	}
	clean(t, guest, "net0")
	guest.QMP("query-status", nil)
}

func TestAnotherRunOfTheVMIsNotTouched(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	old := find(t, q, guest.Name)
	guest.Kill()
	next := testkit.StartQEMU(t, testkit.QEMUOptions{Name: guest.Name, RootPorts: 1, QMPDir: dir})
	if now := find(t, q, guest.Name); now.Instance == old.Instance || now.PID != next.PID {
		t.Fatalf("the second run is %+v, the first was %+v", now, old)
	}
	if _, err := q.Plug(t.Context(), old, nic(t, "net0", 1)); !errors.Is(err, ErrOtherRun) || !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("Plug into the run that ended = %v", err)
	}
	if err := q.Unplug(t.Context(), old, NIC{ID: "net0"}); err != nil {
		t.Errorf("Unplug from the run that ended = %v", err)
	}
	clean(t, next, "net0")
}

func TestCutOffNICHasNoBackendAndCanBeUnplugged(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir, Args: ejects.Args})
	vm := find(t, q, guest.Name)
	if err := q.CutOff(t.Context(), vm, NIC{ID: "net0"}); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("CutOff of no NIC = %v", err)
	}
	if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 4)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := q.CutOff(t.Context(), vm, NIC{ID: "net0"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := tapsOf(guest.PID); n != 0 {
		t.Errorf("QEMU still holds %d queues", n)
	}
	if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); err != nil {
		t.Fatal(err)
	}
	clean(t, guest, "net0")
}

// TestNoSocketIsHeldOverASecond measures how long others have to wait; half a
// second is for a machine that runs other tests besides.
func TestNoSocketIsHeldOverASecond(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 3, QMPDir: dir})
	vm := find(t, q, guest.Name)
	cards := []NIC{nic(t, "net0", 8), nic(t, "net1", 8), nic(t, "net2", 8)}
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"Ask", func() error { _, err := q.Ask(t.Context(), guest.Name, ""); return err }},
		{"Plug", func() error {
			card := cards[0]
			cards = cards[1:]
			_, err := q.Plug(t.Context(), vm, card)
			return err
		}},
		{"Unplug", func() error {
			if err := q.Unplug(t.Context(), vm, NIC{ID: "net0"}); !errors.Is(err, ErrEjecting) {
				return fmt.Errorf("want ErrEjecting: %w", err)
			}
			return nil
		}},
	} {
		soonest(t, time.Second+500*time.Millisecond, c.name, func() time.Duration {
			began := time.Now()
			if err := c.call(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			return time.Since(began)
		})
	}
}

// TestGuestSeesTheLinkThatItIsGiven reads what QEMU shows of the NIC's backend.
func TestGuestSeesTheLinkThatItIsGiven(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{RootPorts: 1, QMPDir: dir})
	vm := find(t, q, guest.Name)
	if err := q.SetLink(t.Context(), vm, NIC{ID: "net0"}, false); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("SetLink of no NIC = %v", err)
	}
	if _, err := q.Plug(t.Context(), vm, nic(t, "net0", 1)); err != nil {
		t.Fatal(err)
	}
	for _, up := range []bool{false, false, true} {
		if err := q.SetLink(t.Context(), vm, NIC{ID: "net0"}, up); err != nil {
			t.Errorf("SetLink(%v) = %v", up, err)
		}
	}
}
