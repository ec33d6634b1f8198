package hypervisor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func newWays(t *testing.T) (w Ways, dir string) {
	t.Helper()
	q, dir := newQMP(t, Limits{})
	return Ways{QMP: q, Libvirt: NewLibvirt(LibvirtOptions{Log: testLogger(t)}), Netns: NewNetns()}, dir
}

func TestABadConfigurationOfOneWayChangesNone(t *testing.T) {
	w, _ := newWays(t)
	good := Config{Sockets: []string{"/a/{vm}.sock"}, Libvirt: "qemu:///system?socket=/a/lv"}
	if err := w.Configure(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Config{
		{Sockets: []string{"/b/{vm}.sock"}, Libvirt: "qemu:///session"},
		{Sockets: []string{"b"}, Libvirt: "qemu:///system?socket=/b/lv"},
		{Sockets: []string{"/b/{vm}.sock"}, Libvirt: "qemu:///system?socket=/b/lv", Folders: []string{"run/netns"}},
		{Sockets: []string{"/b/{vm}.sock"}, Libvirt: "qemu:///system?socket=/b/lv", Trusted: []string{"/run/netns/[a"}},
	} {
		if err := w.Configure(bad); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
		sockets, _ := w.Libvirt.where()
		if p := w.QMP.config(); len(p) != 1 || p[0].text != "/a/{vm}.sock" || !slices.Equal(sockets, []string{"/a/lv"}) {
			t.Errorf("in force: %+v, %v", p, sockets)
		}
	}
}

func TestTheWatchBeginsOnceWhenAllHave(t *testing.T) {
	w, dir := newWays(t)
	if err := w.Configure(Config{Sockets: []string{dir + "/{vm}.sock"}, Libvirt: "qemu:///system?socket=" + dir + "/none"}); err != nil {
		t.Fatal(err)
	}
	seen, end := startRun(t, w.Run)
	seen.wait(t, 0, "the beginning", begun)
	end()
	if n := seen.count(); n != 1 {
		t.Errorf("%d sightings: %+v", n, seen.list)
	}
	if err := w.Allowed(1000, viaLibvirt); err != nil {
		t.Errorf("a user may not name libvirt: %v", err)
	}
}

func TestAVMThatNobodyKnowsIsToldOnce(t *testing.T) {
	w, dir := newWays(t)
	if err := w.Configure(Config{Sockets: []string{dir + "/{vm}.sock"}, Libvirt: "qemu:///system?socket=" + dir + "/none"}); err != nil {
		t.Fatal(err)
	}
	seen, _ := startRun(t, w.Run)
	seen.wait(t, 0, "the beginning", begun)
	_, err := w.Find(t.Context(), "vm1", "")
	if !errors.Is(err, vmnetd.ErrNotFound) || !strings.Contains(err.Error(), "libvirtd does not answer") || !strings.Contains(err.Error(), dir+"/vm1.sock") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	// Nothing is known where libvirt is asked for: nobody may conclude that the VM ended.
	if _, err := w.Find(t.Context(), "vm1", viaLibvirt); !errors.Is(err, vmnetd.ErrFailed) || errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("by libvirt: %v", err)
	}
	if _, err := w.Definition(t.Context(), "vm1"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("definition: %v", err)
	}
}

func TestAVMIsReachedTheWayItRuns(t *testing.T) {
	b := newLvBed(t)
	q, dir := newQMP(t, Limits{})
	w := Ways{QMP: q, Libvirt: b.l, Netns: NewNetns()}
	testkit.StartQEMU(t, testkit.QEMUOptions{Name: "plain", QMPDir: dir})
	b.create("kept")
	n := b.seen.count()
	b.Virsh("define", b.file(lvXMLOf("off", 1, "")))
	b.seen.wait(t, n, "the definition", isVM("off", false))
	for name, via := range map[string]string{"kept": viaLibvirt, "plain": "qmp:" + dir + "/plain.sock"} {
		for _, f := range []func(context.Context, string, string) (VM, error){w.Find, w.Ask} {
			if vm, err := f(t.Context(), name, ""); err != nil || vm.Via != via {
				t.Errorf("%s: %+v, %v", name, vm, err)
			}
		}
	}
	if _, err := w.Find(t.Context(), "off", ""); err == nil || err.Error() != "VM off is shut off" {
		t.Errorf("off: %v", err)
	}
	if _, err := w.Find(t.Context(), "nobody", ""); !errors.Is(err, vmnetd.ErrNotFound) || !strings.Contains(err.Error(), "libvirt does not know it") {
		t.Errorf("nobody: %v", err)
	}
	if names := w.Names(); !slices.Equal(names, []string{"kept", "off", "plain"}) {
		t.Errorf("names: %v", names)
	}
	vm, _ := w.Find(t.Context(), "kept", "")
	nic := b.device("net0", 1)
	if _, err := w.Plug(t.Context(), vm, nic); err != nil {
		t.Fatal(err)
	}
	if !b.has("kept", nic.Ifname) {
		t.Error("it was plugged elsewhere")
	}
	within(t, longEnough, "Unplug", func() {
		if err := w.Unplug(t.Context(), vm, nic); err != nil {
			t.Error(err)
		}
	})
}
