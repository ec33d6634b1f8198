package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/policy"
)

// keep keeps a NIC and says whether that changed anything.
func keep(t *testing.T, s *Source, req vmnetd.Request) bool {
	t.Helper()
	changed, err := s.Keep(req)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// wantKept checks what is kept, by a Source of its own, as after a restart.
func wantKept(t *testing.T, dir string, want ...agent.WantedVM) {
	t.Helper()
	got, err := New("", "", dir).Kept()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(policy.Pos{})); diff != "" || err != nil {
		t.Errorf("%v\n-want +got\n%s", err, diff)
	}
}

func TestWhatIsKeptComesBackUntilItIsTakenOut(t *testing.T) {
	dir := t.TempDir()
	s := New("", "", dir)
	wantKept(t, dir)
	net0 := vmnetd.Request{VM: "101", ID: "net0", Network: "lan", Uplink: "wan", Mode: vmnetd.Private, MAC: "52:54:00:00:00:01", Queues: 4, Bus: "pci.0", Addr: "5", IPs: []string{"192.0.2.5", "2001:db8::5"}}
	net1 := vmnetd.Request{VM: "101", ID: "net1"}
	asked := net1
	asked.Via, asked.Config, asked.Live, asked.Handover = "qmp", true, true, "name" // how it came is not kept
	sized := net0
	sized.IPs = []string{"192.0.2.5/24", "2001:db8::5/64"} // how long the prefix is says the guest
	if !keep(t, s, net0) || !keep(t, s, asked) || keep(t, s, net1) || keep(t, s, net0) || keep(t, s, sized) {
		t.Error("changed is wrong")
	}
	if _, err := s.Keep(vmnetd.Request{VM: "101", ID: "net2", IPs: []string{"224.0.0.1"}}); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("a group's address is kept: %v", err)
	}
	wantKept(t, dir, agent.WantedVM{Name: "101", NICs: []vmnetd.Request{net0, net1}})
	net0.Network, net0.Queues = "dmz", 0
	if !keep(t, s, net0) {
		t.Error("another network in its place changed nothing")
	}
	wantKept(t, dir, agent.WantedVM{Name: "101", NICs: []vmnetd.Request{net0, net1}})
	file := filepath.Join(dir, "vms", "101.yaml")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, c := range []struct {
		id      string
		changed bool
	}{{"net0", true}, {"net0", false}, {"net9", false}, {"net1", true}, {"net1", false}} {
		if changed, err := s.Unkeep("101", c.id); err != nil || changed != c.changed {
			t.Errorf("Unkeep %s: %v, %v", c.id, changed, err)
		}
	}
	wantKept(t, dir)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of no NICs: %v", err)
	}
}

func TestNoNameLeavesTheFolderAndEveryGoodOneComesBack(t *testing.T) {
	dir := t.TempDir()
	s := New("", "", dir)
	for _, bad := range []string{"", "../x", "a/b", "..", "."} {
		if _, err := s.Keep(vmnetd.Request{VM: bad, ID: "net0"}); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := s.Unkeep(bad, "net0"); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := s.Keep(vmnetd.Request{VM: "vm1"}); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("no id: %v", err)
	}
	for _, vm := range []string{".hidden", "%2e", "a b'\"\\", "yes", "5", "ü\u2028\ufeff", "#x", "{vm}", ".yaml"} {
		keep(t, s, vmnetd.Request{VM: vm, ID: "net0", Network: "1"})
		got, err := s.Kept()
		if err != nil || len(got) != 1 || got[0].Name != vm || got[0].NICs[0].Network != "1" {
			t.Errorf("%q: %+v, %v", vm, got, err)
		}
		if changed, err := s.Unkeep(vm, "net0"); !changed || err != nil {
			t.Errorf("%q: %v, %v", vm, changed, err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "vms")); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestOneBadFileIsNamedAndHidesNoOther(t *testing.T) {
	dir := t.TempDir()
	s := New("", "", dir)
	good := vmnetd.Request{VM: "good", ID: "net0"}
	keep(t, s, good)
	vms := filepath.Join(dir, "vms")
	put(t, filepath.Join(vms, "broken.yaml"), "vm: broken\nnics: [{id: net0, netwark: lan}]\n")
	put(t, filepath.Join(vms, "moved.yaml"), "vm: other\nnics: [{id: net0}]\n")
	put(t, filepath.Join(vms, "labels.yaml"), "vm: labels\nlabels: {tenant: t1}\n")
	put(t, filepath.Join(vms, "empty.yaml"), "")
	put(t, filepath.Join(vms, "nameless.yaml"), "nics: []\n")
	put(t, filepath.Join(vms, "README"), "not read\n")
	got, err := s.Kept()
	if len(got) != 1 || got[0].Name != "good" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{
		"broken.yaml:2:", `did you mean "network"?`, "moved.yaml:1:5: it is of VM \"other\"", "labels.yaml:2:1: unknown key", "empty.yaml: it is empty", "nameless.yaml:1:1: this entry has no vm",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "README") {
		t.Errorf("%v", err)
	}
	if _, err := s.Keep(vmnetd.Request{VM: "broken", ID: "net1"}); err == nil || !strings.Contains(err.Error(), "broken.yaml") {
		t.Errorf("written over what could not be read: %v", err)
	}
}

func TestWhatCouldNotBeReadAgainIsNotKept(t *testing.T) {
	dir := t.TempDir()
	s := New("", "", dir)
	net0 := vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}
	keep(t, s, net0)
	for _, c := range []struct {
		req  vmnetd.Request
		says string
	}{
		{vmnetd.Request{Addr: "5"}, "addr without bus"},
		{vmnetd.Request{Bus: "rp 0"}, `bus "rp 0"`},
		{vmnetd.Request{Bus: "pci.0", Addr: "zz"}, `addr "zz"`},
		{vmnetd.Request{Queues: maxQueues + 1}, "queues"},
	} {
		c.req.VM, c.req.ID = "vm1", "net1"
		changed, err := s.Keep(c.req)
		if changed || !errors.Is(err, vmnetd.ErrInvalid) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, %v", c.req, changed, err)
		}
	}
	wantKept(t, dir, agent.WantedVM{Name: "vm1", NICs: []vmnetd.Request{net0}})
}

func TestAKillBetweenLeavesTheOldOrTheNewNICs(t *testing.T) {
	dir := t.TempDir()
	s := New("", "", dir)
	net0 := vmnetd.Request{VM: "vm1", ID: "net0"}
	keep(t, s, net0)
	// What atomicfile had written when it was killed before the rename.
	put(t, filepath.Join(dir, "vms", ".vm1.yaml.123456"), "vm: \"vm1\"\nnics:\n  - id: \"ne")
	wantKept(t, dir, agent.WantedVM{Name: "vm1", NICs: []vmnetd.Request{net0}})
	net1 := vmnetd.Request{VM: "vm1", ID: "net1"}
	keep(t, s, net1)
	wantKept(t, dir, agent.WantedVM{Name: "vm1", NICs: []vmnetd.Request{net0, net1}})
}

func TestNICsKeptAtOnceAreAllKept(t *testing.T) {
	dir := t.TempDir()
	s := New("", "", dir)
	var all sync.WaitGroup
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		all.Go(func() { _, _ = s.Keep(vmnetd.Request{VM: "vm1", ID: id}) })
	}
	all.Wait()
	if got, err := s.Kept(); err != nil || len(got) != 1 || len(got[0].NICs) != 8 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWhateverMayBeAskedForIsKeptAsItIs(t *testing.T) {
	dir := t.TempDir()
	s := New("", "", dir)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,12}`)
		req := vmnetd.Request{
			VM: "vm1", ID: "net0", Network: text.Draw(t, "network"), Uplink: text.Draw(t, "uplink"), Queues: rapid.IntRange(0, maxQueues).Draw(t, "queues"),
			Bus: rapid.OneOf(rapid.Just(""), text).Draw(t, "bus"), Addr: rapid.SampledFrom([]string{"", "5", "5.0", "1f.7", "0x3", "1e1"}).Draw(t, "addr"),
		}
		if req.Addr == "1e1" {
			req.Addr = "1e"
		}
		if _, err := s.Keep(req); req.Bus == "" && req.Addr != "" {
			if !errors.Is(err, vmnetd.ErrInvalid) {
				t.Fatalf("a slot on no bus: %v", err)
			}
			return
		} else if err != nil {
			t.Fatal(err)
		}
		got, err := s.Kept()
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0].NICs[0], req) {
			t.Fatalf("%+v came back as %+v, %v", req, got, err)
		}
	})
}
