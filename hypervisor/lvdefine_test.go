package hypervisor

import (
	"errors"
	"slices"
	"strings"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

const theirs = `<interface type='ethernet'><mac address='52:54:00:aa:bb:01'/><target dev='vmntheirs' managed='no'/><model type='virtio'/></interface>
<interface type='user'><mac address='52:54:00:aa:bb:02'/><model type='virtio'/></interface>`

func (b *lvBed) define(name, more string) {
	b.t.Helper()
	n := b.seen.count()
	b.Virsh("define", b.file(lvXMLOf(name, 3, more)))
	b.seen.wait(b.t, n, "the definition", isVM(name, false))
}

func element(id, mac, target string) domxml.Element {
	return domxml.Element{NIC: domxml.NIC{MAC: mac, ID: id, Network: "lan", Mode: "bridge"}, Target: target, Queues: 4, MTU: 1400}
}

// sortedLines: libvirt puts a metadata element that is written to the end.
func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestADefinitionTakesANICAndGivesItBack(t *testing.T) {
	b := newLvBed(t)
	b.define("vm1", theirs)
	before, err := b.l.Definition(t.Context(), "vm1")
	if err != nil || before.Running || len(before.Interfaces) != 2 || before.Labels["tier"] != "gold" {
		t.Fatalf("%+v, %v", before, err)
	}
	el := element("net0", "52:54:00:aa:bb:10", "vmnnet0")
	for i, want := range []bool{true, false} {
		if changed, err := b.l.Define(t.Context(), "vm1", el); err != nil || changed != want {
			t.Fatalf("call %d: %v, %v", i, changed, err)
		}
	}
	now, _ := b.l.Definition(t.Context(), "vm1")
	i, ok := byTarget(now.Interfaces, "vmnnet0")
	if !ok || i.Queues != 4 || i.MTU != 1400 || i.Managed || len(now.NICs) != 1 || now.NICs[0] != el.NIC || now.Labels["tier"] != "gold" {
		t.Errorf("%+v", now.Domain)
	}
	if !strings.Contains(now.XML, "urn:other") {
		t.Error("the metadata of others has gone")
	}
	el.Queues, el.Network = 2, "other"
	if changed, err := b.l.Define(t.Context(), "vm1", el); err != nil || !changed {
		t.Fatalf("changed: %v, %v", changed, err)
	}
	after, _ := b.l.Definition(t.Context(), "vm1")
	j, _ := byTarget(after.Interfaces, "vmnnet0")
	if j.Queues != 2 || j.Addr != i.Addr || len(after.Interfaces) != 3 || after.NICs[0].Network != "other" {
		t.Errorf("replaced: %+v", after.Domain)
	}
	for _, want := range []bool{true, false} {
		if changed, err := b.l.Undefine(t.Context(), "vm1", NIC{ID: "net0", Ifname: "vmnnet0"}); err != nil || changed != want {
			t.Fatalf("Undefine: %v, %v", changed, err)
		}
	}
	end, _ := b.l.Definition(t.Context(), "vm1")
	if sortedLines(end.XML) != sortedLines(before.XML) {
		t.Errorf("was\n%s\nis\n%s", before.XML, end.XML)
	}
}

func TestWhatCannotBeDefinedChangesNothing(t *testing.T) {
	b := newLvBed(t)
	b.define("vm1", theirs)
	before, err := b.l.Definition(t.Context(), "vm1")
	if err != nil {
		t.Fatal(err)
	}
	for what, el := range map[string]domxml.Element{
		"another's MAC":    element("net0", "52:54:00:aa:bb:02", "vmnnet0"),
		"another's device": element("net0", "52:54:00:aa:bb:01", "vmnnet0"),
	} {
		if changed, err := b.l.Define(t.Context(), "vm1", el); !errors.Is(err, vmnetd.ErrBusy) || changed || !strings.Contains(err.Error(), "another interface of VM vm1") {
			t.Errorf("%s: %v, %v", what, changed, err)
		}
	}
	bad := element("net0", "52:54:00:aa:bb:10", "vmnnet0")
	bad.Addr = "0000:00:1f.0" // the machine's own
	if _, err := b.l.Define(t.Context(), "vm1", bad); err == nil {
		t.Error("an impossible place was taken")
	}
	if now, _ := b.l.Definition(t.Context(), "vm1"); sortedLines(now.XML) != sortedLines(before.XML) {
		t.Errorf("was\n%s\nis\n%s", before.XML, now.XML)
	}
	b.create("fleeting")
	if _, err := b.l.Define(t.Context(), "fleeting", element("net0", "52:54:00:aa:bb:10", "vmnnet0")); !errors.Is(err, vmnetd.ErrBusy) || err.Error() != "VM fleeting is transient: it has no definition" {
		t.Errorf("transient: %v", err)
	}
	if def, err := b.l.Definition(t.Context(), "fleeting"); err != nil || !def.Running || def.XML != "" {
		t.Errorf("transient: %+v, %v", def, err)
	}
	if _, err := b.l.Definition(t.Context(), "nobody"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestADefinitionIsReplacedUnlessItChanged(t *testing.T) {
	b := newLvBed(t)
	b.define("vm1", theirs)
	was, err := b.l.Definition(t.Context(), "vm1")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(was.XML, "vmntheirs", "vmnours", 1)
	if err := b.l.Redefine(t.Context(), was, text); err != nil {
		t.Fatal(err)
	}
	now, _ := b.l.Definition(t.Context(), "vm1")
	if now.XML != text {
		t.Errorf("is %s", now.XML)
	}
	if err := b.l.Redefine(t.Context(), was, was.XML); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("it was changed: %v", err)
	}
	b.Virsh("detach-interface", "vm1", "ethernet", "--config")
	n := b.seen.count()
	b.Virsh("start", "--paused", "vm1")
	b.whole(n, "vm1")
	running, _ := b.l.Definition(t.Context(), "vm1")
	if err := b.l.Redefine(t.Context(), running, text); !errors.Is(err, vmnetd.ErrBusy) || !running.Running {
		t.Errorf("it runs: %v", err)
	}
	if changed, err := b.l.Define(t.Context(), "vm1", element("net0", "52:54:00:aa:bb:10", "vmnnet0")); err != nil || !changed {
		t.Errorf("into a running VM's definition: %v, %v", changed, err)
	}
	if strings.Contains(b.Virsh("dumpxml", "vm1"), "vmnnet0") {
		t.Error("the running VM has it, too")
	}
}

func TestReadOnlyIsDenied(t *testing.T) {
	b := newLvBed(t)
	b.define("vm1", "")
	b.Virsh("create", "--paused", b.file(lvXMLOf("vm2", 2, "")))
	ro := NewLibvirt(LibvirtOptions{Log: testLogger(t)})
	ro.sockets = []string{b.Socket + "-ro"} // as by a link of another name
	seen, _ := startRun(t, ro.Run)
	seen.wait(t, 0, "the beginning", begun)
	_, err := ro.Define(t.Context(), "vm1", element("net0", "52:54:00:aa:bb:10", "vmnnet0"))
	if !errors.Is(err, vmnetd.ErrDenied) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	vm, err := ro.Find(t.Context(), "vm2", "")
	if err == nil {
		_, err = ro.Plug(t.Context(), vm, b.device("net0", 1))
	}
	if !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("%v", err)
	}
}

func TestLibvirtsRefusalsHaveClasses(t *testing.T) {
	for code, want := range map[libvirt.ErrorNumber]error{
		libvirt.ErrNoDomain: vmnetd.ErrNotFound, libvirt.ErrOperationDenied: vmnetd.ErrDenied, libvirt.ErrAccessDenied: vmnetd.ErrDenied,
		libvirt.ErrOperationTimeout: vmnetd.ErrBusy, libvirt.ErrConfigUnsupported: vmnetd.ErrUnsupported, libvirt.ErrInternalError: vmnetd.ErrFailed,
	} {
		if err := lvRefused("vm1", "do it", libvirt.Error{Code: uint32(code), Message: "it\x1b is so."}); !errors.Is(err, want) || strings.Contains(err.Error(), "\x1b") || strings.HasSuffix(err.Error(), ".") {
			t.Errorf("%d: %v", code, err)
		}
	}
}
