package uplink

import (
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestPathOfAPlainDeviceIsItself(t *testing.T) {
	l := newLab(t)
	w := NewWatched(l.Finder, l.watch)
	u0 := l.state(t, Spec{Name: "u0"}).Link
	if p := w.Path(u0.Index); p.Text != "u0" || !p.Same(Path{Egress: []int{u0.Index}}) {
		t.Errorf("%+v", p)
	}
	u, err := w.Describe(t.Context(), Spec{Name: "u0", Kind: vmnetd.UplinkNIC})
	if err != nil || u.State != vmnetd.StateUp || u.Path != "" || u.Ifindex != u0.Index {
		t.Errorf("%+v, %v", u, err)
	}
	l.out.Delete(t, "far0")
	if err := l.watch.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := w.Path(u0.Index); p.Text != "" || len(p.Egress) != 0 {
		t.Errorf("without the device: %+v", p)
	}
	if u, err := w.Describe(t.Context(), Spec{Name: "u0", Kind: vmnetd.UplinkNIC}); err != nil || u.State != vmnetd.StateAbsent || u.Problem == "" {
		t.Errorf("without the device: %+v, %v", u, err)
	}
}

// TestVMPathOfABondIsItsActivePort follows a failover in the mirror.
func TestVMPathOfABondIsItsActivePort(t *testing.T) {
	l := newVMLab(t)
	w := NewWatched(l.Finder, l.watch)
	l.ip(t, "link", "add", "b0", "type", "bond", "mode", "active-backup", "miimon", "10")
	l.ip(t, "link", "set", "u0", "down")
	l.ip(t, "link", "set", "u0", "master", "b0")
	l.ip(t, "link", "set", "b0", "up")
	l.ns.WaitRunning(t, "b0")
	b0 := l.state(t, Spec{Name: "b0"}).Link
	if p := w.Path(b0.Index); p.Text != "u0" {
		t.Errorf("%+v", p)
	}
	u, err := w.Describe(t.Context(), Spec{Name: "b0", Kind: vmnetd.UplinkExternal})
	if err != nil || u.Path != "u0" || u.State != vmnetd.StateUp {
		t.Errorf("%+v, %v", u, err)
	}
	l.ip(t, "link", "add", "link", "b0", "name", "b0.7", "up", "type", "vlan", "id", "7")
	l.ns.WaitRunning(t, "b0.7")
	if p := w.Path(l.state(t, Spec{Name: "b0.7"}).Link.Index); p.Text != "u0" {
		t.Errorf("a VLAN: %+v", p)
	}
}
