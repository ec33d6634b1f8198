package hypervisor

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
)

func TestOnlyThisHostsLibvirtIsTaken(t *testing.T) {
	for uri, want := range map[string][]string{
		"":                               nil,
		"qemu:///system":                 {libvirtdSocket, virtqemudSocket},
		"qemu:///system?socket=/x/sock":  {"/x/sock"},
		"qemu:///system?socket=/x%20y/s": {"/x y/s"},
	} {
		if got, err := libvirtSockets(uri); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{
		"qemu:///session", "qemu+ssh://host/system", "qemu://host/system", "xen:///system", "qemu:///system?socket=/run/libvirt/libvirt-sock-ro",
		"qemu:///system?socket=relative", "qemu:///system?socket=/a/../b", "qemu:///system?keyfile=/x", "qemu:///system?socket=/a&socket=/b", "qemu:///system#x", ":", "libvirt",
	} {
		l := NewLibvirt(LibvirtOptions{})
		if err := l.Configure("qemu:///system?socket=/before"); err != nil {
			t.Fatal(err)
		}
		err := l.Configure(uri)
		if !errors.Is(err, vmnetd.ErrInvalid) || vmnetd.NextOf(err) == "" {
			t.Errorf("%q: %v", uri, err)
		}
		if now, _ := l.where(); !slices.Equal(now, []string{"/before"}) {
			t.Errorf("%q: %v is in force", uri, now)
		}
	}
}

func TestADomainIsFoundWithItsStates(t *testing.T) {
	b := newLvBed(t)
	if _, err := b.l.Find(t.Context(), "vm1", ""); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("an unknown VM: %v", err)
	}
	vm := b.create("vm1")
	if vm.Via != viaLibvirt || vm.VCPUs != 2 || vm.Running || !vm.Halted || vm.Persistent || vm.Ifnames == nil || vm.Labels["tier"] != "gold" ||
		vm.Instance != vm.UUID+":"+strings.TrimSpace(b.Virsh("domid", "vm1")) {
		t.Errorf("%+v", vm)
	}
	for _, step := range []struct {
		command string
		running bool
	}{{"resume", true}, {"suspend", false}, {"resume", true}} {
		n := b.seen.count()
		b.Virsh(step.command, "vm1")
		b.seen.wait(t, n, step.command, isVM("vm1", true))
		asked, err := b.l.Ask(t.Context(), "vm1", viaLibvirt)
		if err != nil {
			t.Fatal(err)
		}
		if found := b.find("vm1"); found.Running != step.running || found.Halted == step.running || asked.Running != step.running || found.Instance != vm.Instance {
			t.Errorf("%s: found %+v, asked %+v", step.command, found, asked)
		}
	}
	if says := b.Virsh("dominfo", "vm1"); strings.Contains(says, "monitor") {
		t.Errorf("listening to QEMU's events taints: %s", says)
	}
	n := b.seen.count()
	b.Virsh("destroy", "vm1")
	b.seen.wait(t, n, "the end", isVM("vm1", false))
	if _, err := b.l.Find(t.Context(), "vm1", ""); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
}

func TestAPersistentDomainIsShutOff(t *testing.T) {
	b := newLvBed(t)
	n := b.seen.count()
	b.Virsh("define", b.file(lvXMLOf("vm1", 1, "")))
	b.seen.wait(t, n, "the definition", isVM("vm1", false))
	_, err := b.l.Find(t.Context(), "vm1", "")
	if !errors.Is(err, vmnetd.ErrNotFound) || err.Error() != "VM vm1 is shut off" || !strings.Contains(vmnetd.NextOf(err), "virsh start vm1") {
		t.Errorf("%v, next %q", err, vmnetd.NextOf(err))
	}
	if names := b.l.Names(); !slices.Equal(names, []string{"vm1"}) {
		t.Errorf("names: %v", names)
	}
	n = b.seen.count()
	b.Virsh("start", "--paused", "vm1")
	vm := b.whole(n, "vm1")
	if !vm.Persistent || vm.Incoming {
		t.Errorf("%+v", vm)
	}
	n = b.seen.count()
	b.Virsh("destroy", "vm1")
	b.seen.wait(t, n, "the end", isVM("vm1", false))
	n = b.seen.count()
	b.Virsh("undefine", "vm1")
	b.seen.wait(t, n, "the undefinition", isVM("vm1", false))
	for deadline := time.Now().Add(longEnough); len(b.l.Names()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("names: %v", b.l.Names())
		}
	}
}

func TestAResumeIsToldAtOnce(t *testing.T) {
	b := newLvBed(t)
	b.create("vm1")
	soonest(t, 500*time.Millisecond, "the sighting of a resume", func() time.Duration {
		var took []time.Duration
		for range 10 {
			n := b.seen.count()
			begin := time.Now()
			b.Virsh("resume", "vm1")
			took = append(took, b.seen.wait(t, n, "the resume", isVM("vm1", true)).Sub(begin))
			n = b.seen.count()
			b.Virsh("suspend", "vm1")
			b.seen.wait(t, n, "the suspend", isVM("vm1", true))
		}
		slices.Sort(took)
		t.Logf("from the start of virsh resume to the sighting: %v", took)
		return took[len(took)/2]
	})
}

func TestRunSurvivesLibvirtd(t *testing.T) {
	b := newLvBed(t)
	stays := b.create("stays")
	b.create("goes")
	n := b.seen.count()
	b.Kill()
	for deadline := time.Now().Add(longEnough); ; time.Sleep(time.Millisecond) {
		if _, err := b.l.Ask(t.Context(), "stays", ""); err != nil {
			if !strings.Contains(err.Error(), "libvirtd does not answer on "+b.Socket) || vmnetd.NextOf(err) != "systemctl status libvirtd" || !errors.Is(err, vmnetd.ErrFailed) {
				t.Errorf("without libvirtd: %v", err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the mirror is asked for libvirtd")
		}
	}
	if vm := b.find("stays"); vm.Instance != stays.Instance {
		t.Errorf("the mirror was lost: %+v", vm)
	}
	if now := b.seen.count(); now != n {
		t.Errorf("libvirtd's end was told as the end of VMs")
	}
	b.Start()
	b.Virsh("resume", "stays")
	b.seen.wait(t, n, "the resume", isVM("stays", true))
	n = b.seen.count()
	b.Virsh("destroy", "goes")
	b.seen.wait(t, n, "the end", isVM("goes", false))
	if vm := b.find("stays"); vm.Instance != stays.Instance || !vm.Running {
		t.Errorf("%+v", vm)
	}
}

func TestWhatHappenedWithoutUsIsTold(t *testing.T) {
	b := newLvBed(t)
	b.create("goes")
	b.create("stays")
	n := b.seen.count()
	if err := b.l.Configure("qemu:///system?socket=" + b.Dir + "/nobody"); err != nil {
		t.Fatal(err)
	}
	b.Virsh("destroy", "goes")
	b.Virsh("resume", "stays")
	if err := b.l.Configure(b.URI); err != nil {
		t.Fatal(err)
	}
	b.seen.wait(t, n, "the end", isVM("goes", false))
	b.seen.wait(t, n, "the resume", isVM("stays", true))
	if vm := b.find("stays"); !vm.Running {
		t.Errorf("%+v", vm)
	}
	n = b.seen.count()
	if err := b.l.Configure(""); err != nil {
		t.Fatal(err)
	}
	b.seen.wait(t, n, "that libvirt is off", isVM("stays", false))
	if _, err := b.l.Find(t.Context(), "stays", viaLibvirt); !errors.Is(err, vmnetd.ErrUnsupported) {
		t.Errorf("switched off: %v", err)
	}
}
