package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

const uplinkMAC = "02:00:00:00:00:01"

// fixed is a configuration that was accepted and never changes by itself.
type fixed struct {
	cfg  Config
	next Config // what Candidate reads
	err  error
}

func (f *fixed) Candidate() (Config, error) { return f.next, f.err }
func (f *fixed) Accepted() (Config, error)  { return f.cfg, nil }
func (f *fixed) Accept(c Config) error      { f.cfg = c; return nil }
func (*fixed) Name() string                 { return "vmnetd.yaml" }

func testConfig(wanted ...vmnetd.Request) Config {
	cfg := Config{
		Uplinks: []uplink.Spec{{Name: "u0", Device: "u0"}, {Name: "u1", Device: "u1"}},
		Policy: policy.Set{
			Uplinks: []string{"u0", "u1"},
			Networks: []policy.Network{
				{Name: "lan", Uplinks: []string{"u0"}, Grant: policy.Grant{Modes: []vmnetd.Mode{vmnetd.Bridge, vmnetd.Private}}, At: policy.Pos{File: "vmnetd.yaml", Line: 3, Col: 5}},
				{Name: "v7", Uplinks: []string{"u0"}, VLAN: 7, At: policy.Pos{File: "vmnetd.yaml", Line: 5, Col: 5}},
				{Name: "fw", Uplinks: []string{"u1"}, Grant: policy.Grant{Modes: []vmnetd.Mode{vmnetd.Passthru}}, At: policy.Pos{File: "vmnetd.yaml", Line: 4, Col: 5}},
			},
			Rules: []policy.Rule{
				{VM: []string{"evil"}, Deny: "INC-1", Text: `vm: "evil"`, At: policy.Pos{File: "vmnetd.yaml", Line: 6, Col: 5}},
				{VM: []string{"*"}, Networks: []string{"lan"}, Text: `vm: "*"`, At: policy.Pos{File: "vmnetd.yaml", Line: 7, Col: 5}},
				{VM: []string{"fw*"}, Networks: []string{"v7"}, Text: `vm: "fw*"`, At: policy.Pos{File: "vmnetd.yaml", Line: 9, Col: 5}},
				{VM: []string{"fw*"}, Networks: []string{"fw"}, Grant: policy.Grant{Modes: []vmnetd.Mode{vmnetd.Passthru}}, Text: `vm: "fw*"`, At: policy.Pos{File: "vmnetd.yaml", Line: 8, Col: 5}},
			},
		},
	}
	for _, req := range wanted {
		cfg.VMs = append(cfg.VMs, WantedVM{Name: req.VM, NICs: []vmnetd.Request{req}, At: policy.Pos{File: "vmnetd.yaml", Line: 9, Col: 5}})
	}
	return cfg
}

func newWorld() *agenttest.World {
	w := agenttest.New()
	w.AddUplink("u0", uplinkMAC)
	w.AddUplink("u1", "02:00:00:00:00:02")
	return w
}

// host is an agent at work in a world, which can be stopped and started again.
type host struct {
	t     testing.TB
	w     *agenttest.World
	dir   string
	cfg   *fixed
	fp    failpoint.Set
	pause time.Duration // before what failed is tried again; 0: a millisecond
	agent *Agent
	stop  func()
}

func newHost(t testing.TB, w *agenttest.World, cfg Config) *host {
	t.Helper()
	h := &host{t: t, w: w, dir: t.TempDir(), cfg: &fixed{cfg: cfg, next: cfg}}
	t.Cleanup(func() { h.halt() })
	return h
}

func (h *host) start() *Agent {
	h.t.Helper()
	h.agent = New(Options{
		Config: h.cfg, Links: agenttest.Links{W: h.w}, Uplinks: agenttest.Uplinks{W: h.w},
		Devices: agenttest.Devices{W: h.w}, Hypervisor: agenttest.Hypervisor{W: h.w}, Provisioner: agenttest.Provisioner{W: h.w}, Announcer: agenttest.Announcer{W: h.w},
		Rooms: agenttest.Rooms{W: h.w}, Filters: agenttest.Filters{W: h.w}, Learner: agenttest.Learner{W: h.w}, HostLinks: agenttest.HostLinks{W: h.w},
		StateDir: h.dir, LibDir: h.dir, Boot: "boot", Machine: "machine", Version: "test",
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Backoff: cmp.Or(h.pause, time.Millisecond), FP: h.fp,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.agent.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("Run ended with %v", err)
		}
		h.stop = nil
	}
	select {
	case <-h.agent.Ready():
	case err := <-done:
		cancel()
		h.stop = nil
		h.t.Fatalf("Run ended: %v", err)
	}
	return h.agent
}

func (h *host) halt() {
	if h.stop != nil {
		h.stop()
	}
}

// noDisk makes every write of the agent fail until the disk is back.
func (h *host) noDisk() (back func()) {
	h.t.Helper()
	away := h.dir + ".away"
	if err := os.Rename(h.dir, away); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		if err := os.Rename(away, h.dir); err != nil {
			h.t.Error(err)
		}
	}
}

// told is what a subscriber knows.
type told struct {
	mu          sync.Mutex
	attachments map[string]vmnetd.Attachment
	uplinks     map[string]vmnetd.UplinkState
	events      []vmnetd.Event
}

func (h *host) subscribe() *told {
	s := &told{attachments: map[string]vmnetd.Attachment{}, uplinks: map[string]vmnetd.UplinkState{}}
	h.t.Cleanup(h.agent.Subscribe(s.take))
	return s
}

func (s *told) take(c Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case c.Attachment != nil && c.Gone:
		delete(s.attachments, c.Attachment.FullName())
	case c.Attachment != nil:
		s.attachments[c.Attachment.FullName()] = *c.Attachment
	case c.Uplink != nil && c.Gone:
		delete(s.uplinks, c.Uplink.Name)
	case c.Uplink != nil:
		s.uplinks[c.Uplink.Name] = *c.Uplink
	case c.Event != nil:
		s.events = append(s.events, *c.Event)
	}
}

func (s *told) attachment(name string) (vmnetd.Attachment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	att, ok := s.attachments[name]
	return att, ok
}

func (s *told) uplink(name string) vmnetd.UplinkState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uplinks[name]
}

// count is how many events of a name were told.
func (s *told) count(event string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events {
		if e.Event == event {
			n++
		}
	}
	return n
}

// eventually waits until holds gives no error.
func eventually(t testing.TB, what string, holds func() error) {
	t.Helper()
	within(t, 30*time.Second, what, holds)
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// within looks once more when the limit is over: this process may not have run until then.
func within(t fataler, limit time.Duration, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		last := time.Now().After(deadline)
		err := holds()
		if err == nil {
			return
		}
		if last {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(time.Millisecond) // between two looks; the limit above decides
	}
}

// clean says what is left of attachments on the host.
func (h *host) clean(vm string) error {
	if devs := h.w.DeviceNames(); len(devs) != 0 {
		return fmt.Errorf("devices are left: %v", devs)
	}
	if nics := h.w.NICs(vm); len(nics) != 0 {
		return fmt.Errorf("NICs are left: %v", nics)
	}
	if list := h.agent.List(""); len(list) != 0 {
		return fmt.Errorf("attachments are left: %+v", list)
	}
	if vlans := h.w.VLANs(); len(vlans) != 0 {
		return fmt.Errorf("VLAN devices are left: %v", vlans)
	}
	if mac := h.w.UplinkMAC("u1"); mac != "02:00:00:00:00:02" {
		return fmt.Errorf("the uplink's MAC is still %s", mac)
	}
	return nil
}

// works says why a NIC does not carry traffic.
func (h *host) works(vm, id string) error {
	nic, ok := h.w.NICs(vm)[id]
	if !ok || !nic.Works || !nic.LinkUp {
		return fmt.Errorf("%s/%s: plugged %v, %+v", vm, id, ok, nic)
	}
	for _, att := range h.agent.List(vm) {
		if att.ID == id && (att.Phase != vmnetd.Attached || att.Problem != "" || att.Link != "up") {
			return fmt.Errorf("%s/%s works but is shown as %+v", vm, id, att)
		}
	}
	if len(h.agent.List(vm)) == 0 {
		return errors.New("not listed")
	}
	return nil
}

func attach(t testing.TB, a *Agent, req vmnetd.Request) vmnetd.Attachment {
	t.Helper()
	att, err := a.Attach(t.Context(), Caller{}, req)
	if err != nil {
		t.Fatalf("attach %+v: %v", req, err)
	}
	return att
}

var passthruReq = vmnetd.Request{VM: "fw1", ID: "net0", Network: "fw", Mode: vmnetd.Passthru}

// thorough are the requests whose attach and detach take the most steps.
var thorough = map[string]vmnetd.Request{"passthru": passthruReq, "VLAN": {VM: "fw1", ID: "net0", Network: "v7"}}

func TestAttachFailingAtAnyCallLeavesNothing(t *testing.T) {
	for name, req := range thorough {
		t.Run(name, func(t *testing.T) { attachFailingAtAnyCall(t, req) })
	}
}

func attachFailingAtAnyCall(t *testing.T, req vmnetd.Request) {
	t.Helper()
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			w := newWorld()
			w.StartVM("fw1")
			h := newHost(t, w, testConfig())
			a := h.start()
			w.FailAt(k, after)
			_, err := a.Attach(t.Context(), Caller{}, req)
			reached := w.Calls() >= k
			w.FailAt(0, false)
			if err == nil && !reached {
				h.halt()
				break
			}
			if err == nil {
				eventually(t, fmt.Sprintf("call %d (after %v) failed unnoticed", k, after), func() error { return h.works("fw1", "net0") })
			} else {
				eventually(t, fmt.Sprintf("call %d (after %v)", k, after), func() error { return h.clean("fw1") })
			}
			h.halt()
		}
	}
}

func TestDetachFailingAtAnyCallEndsClean(t *testing.T) {
	for name, req := range thorough {
		t.Run(name, func(t *testing.T) { detachFailingAtAnyCall(t, req) })
	}
}

func detachFailingAtAnyCall(t *testing.T, req vmnetd.Request) {
	t.Helper()
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			w := newWorld()
			w.StartVM("fw1")
			h := newHost(t, w, testConfig())
			a := h.start()
			attach(t, a, req)
			w.FailAt(k, after)
			_, _ = a.Detach(t.Context(), Caller{}, "fw1", Selector{ID: "net0"})
			reached := w.Calls() >= k
			w.FailAt(0, false)
			eventually(t, fmt.Sprintf("call %d (after %v)", k, after), func() error { return h.clean("fw1") })
			h.halt()
			if !reached {
				break
			}
		}
	}
}

// killed runs act and kills the agent at each of its calls; what is on disk at
// that moment is all that the next start has.
func killed(t *testing.T, wanted []vmnetd.Request, prepare, act func(*Agent), check func(h *host, k int, onDisk string)) {
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			w := newWorld()
			w.StartVM("fw1")
			h := newHost(t, w, testConfig(wanted...))
			a := h.start()
			prepare(a)
			state := filepath.Join(h.dir, "state.json")
			var frozen []byte
			died := false
			w.DieAt(k, after, func() {
				frozen, _ = os.ReadFile(state)
				died = true
			})
			act(a)
			h.halt()
			w.Revive()
			if died {
				if err := os.WriteFile(state, frozen, 0o600); err != nil {
					t.Fatal(err)
				}
				if len(frozen) == 0 {
					_ = os.Remove(state)
				}
			}
			h.start()
			check(h, k, string(frozen))
			h.halt()
			if !died {
				break
			}
		}
	}
}

func TestKilledAtAnyCallOfAttachIsCompletedOrUndone(t *testing.T) {
	for name, req := range thorough {
		t.Run(name, func(t *testing.T) { killedAtAnyCallOfAttach(t, req) })
	}
}

func killedAtAnyCallOfAttach(t *testing.T, req vmnetd.Request) {
	t.Helper()
	attach := func(a *Agent) { _, _ = a.Attach(t.Context(), Caller{}, req) }
	killed(t, nil, func(*Agent) {}, attach, func(h *host, k int, _ string) {
		eventually(t, fmt.Sprintf("call %d", k), func() error {
			if err := h.works("fw1", "net0"); err == nil {
				return nil
			}
			return h.clean("fw1")
		})
		if unheld := h.w.Unheld(); len(unheld) != 0 {
			t.Errorf("call %d: up without a holder: %v", k, unheld)
		}
	})
}

func TestKilledAtAnyCallOfDetachIsCompleted(t *testing.T) {
	for name, req := range thorough {
		t.Run(name, func(t *testing.T) { killedAtAnyCallOfDetach(t, req) })
	}
}

func killedAtAnyCallOfDetach(t *testing.T, req vmnetd.Request) {
	t.Helper()
	prepare := func(a *Agent) { attach(t, a, req) }
	detach := func(a *Agent) { _, _ = a.Detach(t.Context(), Caller{}, "fw1", Selector{ID: "net0"}) }
	killed(t, nil, prepare, detach, func(h *host, k int, onDisk string) {
		eventually(t, fmt.Sprintf("call %d", k), func() error {
			if onDisk != "" && !strings.Contains(onDisk, `"phase":"detaching"`) && strings.Contains(onDisk, `"phase":"attached"`) {
				return h.works("fw1", "net0") // killed before the wish was written down
			}
			return h.clean("fw1")
		})
	})
}

func TestSameAttachTwiceChangesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	req := vmnetd.Request{VM: "vm1", Mode: vmnetd.Bridge}
	first := attach(t, a, req)
	second := attach(t, a, req)
	if !first.Changed || second.Changed || first.ID != second.ID || len(a.List("")) != 1 {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	_, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: first.ID, Mode: vmnetd.Private})
	if !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("the same id with another mode: %v", err)
	}
	if other := attach(t, a, vmnetd.Request{VM: "vm1", Mode: vmnetd.Private}); other.ID == first.ID {
		t.Errorf("another request got the same NIC: %+v", other)
	}
}

func TestANICElsewhereIsNotTheOneAskedFor(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"}) // the world puts all at rp0
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net1", Bus: "pci.0", Addr: "5"})
	for _, there := range []vmnetd.Request{{ID: "net0", Bus: "rp0"}, {ID: "net1", Bus: "pci.0", Addr: "0x05"}, {ID: "net1", Addr: "5.0"}} {
		there.VM = "vm1"
		if att := attach(t, a, there); att.Changed {
			t.Errorf("%+v: %+v", there, att)
		}
	}
	for _, other := range []vmnetd.Request{{ID: "net0", Bus: "rp1"}, {ID: "net0", Addr: "6"}, {ID: "net1", Bus: "pci.0", Addr: "6"}} {
		other.VM = "vm1"
		if att, err := a.Attach(t.Context(), Caller{}, other); !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "place") {
			t.Errorf("%+v: %+v, %v", other, att, err)
		}
	}
}

func TestVMThatEndsLeavesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("fw1")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, passthruReq)
	attach(t, a, vmnetd.Request{VM: "fw1", Network: "lan"})
	w.StopVM("fw1")
	eventually(t, "the VM has ended", func() error { return h.clean("fw1") })
}

func TestVMRestartedBehindTheSameSocketGetsWhatVMsLists(t *testing.T) {
	w := newWorld()
	h := newHost(t, w, testConfig(vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}))
	h.start()
	w.StartVM("vm1")
	eventually(t, "first start", func() error { return h.works("vm1", "net0") })
	w.StartVM("vm1")
	eventually(t, "second start", func() error { return h.works("vm1", "net0") })
	w.StopVM("vm1")
	eventually(t, "end", func() error { return h.clean("vm1") })
}

func TestDetachOfAListedNICHoldsUntilTheNextStart(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig(vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}))
	a := h.start()
	eventually(t, "start", func() error { return h.works("vm1", "net0") })
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0"}); err != nil {
		t.Fatal(err)
	}
	h.halt()
	a = h.start()
	if list := a.List("vm1"); len(list) != 0 {
		t.Errorf("came back at the restart of the daemon: %+v", list)
	}
	w.StartVM("vm1")
	eventually(t, "next start", func() error { return h.works("vm1", "net0") })
}

func TestGuestThatDoesNotLetGoStaysDetachingWithoutTraffic(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	w.SetStuck("vm1", true)
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	got, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{})
	if err != nil || len(got) != 1 || got[0].Phase != vmnetd.Detaching {
		t.Fatalf("detach = %+v, %v", got, err)
	}
	if nic := w.NICs("vm1")["net0"]; nic.Works {
		t.Error("traffic goes on")
	}
	if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: "net0"}); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("attach meanwhile: %v", err)
	}
	w.SetStuck("vm1", false)
	eventually(t, "the guest lets go", func() error { return h.clean("vm1") })
}

func TestDeletedDeviceIsHandedOverAnew(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.DeleteDevice(att.Ifname)
	eventually(t, "device deleted", func() error {
		if now := a.List("vm1"); len(now) == 1 && now[0].Ifindex == att.Ifindex {
			return errors.New("not seen yet")
		}
		return h.works("vm1", "net0")
	})
	if now := a.List("vm1")[0]; now.MAC != att.MAC {
		t.Errorf("the MAC became %s, was %s", now.MAC, att.MAC)
	}
}

func TestUplinkGoneIsSaidAndComesBackByItself(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.RemoveUplink("u0")
	eventually(t, "uplink gone", func() error {
		att := a.List("vm1")[0]
		if att.Phase != vmnetd.Broken || att.Problem == "" || w.NICs("vm1")["net0"].LinkUp {
			return fmt.Errorf("%+v, guest sees %+v", att, w.NICs("vm1"))
		}
		return nil
	})
	w.AddUplink("u0", uplinkMAC)
	eventually(t, "uplink back", func() error { return h.works("vm1", "net0") })
}

func TestUnknownDeviceIsAdoptedWithAHolderAndRemovedWithout(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	h.halt()
	state := filepath.Join(h.dir, "state.json")
	for _, content := range []string{"{", `{"version":99}`} {
		if err := os.WriteFile(state, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		a = h.start()
		if err := h.works("vm1", "net0"); err != nil {
			t.Errorf("state %q: %v", content, err)
		}
		if now := a.List("vm1")[0]; now.Via != att.Via || now.MAC != att.MAC || now.Network != "lan" {
			t.Errorf("adopted as %+v", now)
		}
		h.halt()
		if aside, _ := filepath.Glob(state + ".2*"); len(aside) == 0 {
			t.Error("the bad state file was not kept")
		}
	}
	w.StopVM("vm1")
	_ = os.Remove(state)
	h.start()
	if err := h.clean("vm1"); err != nil {
		t.Error(err)
	}
}

func TestBusyMonitorAtTheStartRemovesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	h.halt()
	w.SetBusy("vm1", true)
	a = h.start()
	if list := a.List("vm1"); len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Problem == "" {
		t.Errorf("with a busy monitor: %+v", list)
	}
	w.SetBusy("vm1", false)
	eventually(t, "monitor free", func() error { return h.works("vm1", "net0") })
}

func TestRestartLooksAndTouchesNothing(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	before := attach(t, h.start(), vmnetd.Request{VM: "vm1", ID: "net0"})
	h.halt()
	after := h.start().List("vm1")
	before.Changed = false
	if len(after) != 1 || after[0].Ifindex != before.Ifindex {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestBadFilesAtTheStartRunOnWhatWasAccepted(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	h.cfg.err = vmnetd.Errorf(vmnetd.ErrInvalid, "vmnetd.yaml:1:1: nonsense")
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	status := a.Status()
	if len(status.Problems) != 1 || status.Problems[0].Level != vmnetd.LevelFail {
		t.Errorf("problems: %+v", status.Problems)
	}
	if err := a.Reload(t.Context()); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("Reload = %v", err)
	}
	h.cfg.err, h.cfg.next = nil, testConfig(vmnetd.Request{VM: "vm1", ID: "net1", Network: "lan"})
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "listed by the new files", func() error { return h.works("vm1", "net1") })
	if p := a.Status().Problems; len(p) != 0 {
		t.Errorf("problems after the reload: %+v", p)
	}
}

func TestReloadNeverChangesARunningNIC(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	before := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	next := testConfig()
	next.Policy.Networks[0].Grant.Modes = []vmnetd.Mode{vmnetd.Private}
	h.cfg.next = next
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change is shown", func() error {
		now := a.List("vm1")[0]
		if now.Mode != before.Mode || now.Ifindex != before.Ifindex || now.Phase != vmnetd.Attached || now.Problem == "" {
			return fmt.Errorf("after the reload: %+v", now)
		}
		return nil
	})
}

func TestDetachNeverGuessesAmongSeveral(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	for _, id := range []string{"net0", "net1"} {
		attach(t, a, vmnetd.Request{VM: "vm1", ID: id})
	}
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{}); !errors.Is(err, vmnetd.ErrInvalid) || len(a.List("vm1")) != 2 {
		t.Errorf("detach without a name: %v", err)
	}
	if _, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net7"}); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("detach of nothing: %v", err)
	}
	if got, err := a.Detach(t.Context(), Caller{}, "vm1", Selector{All: true}); err != nil || len(got) != 2 {
		t.Errorf("detach --all: %v, %v", got, err)
	}
}

func TestDuplicateMACNamesTheHolder(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	w.StartVM("vm2")
	h := newHost(t, w, testConfig())
	a := h.start()
	attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0", MAC: "52:54:00:00:00:01"})
	_, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm2", MAC: "52:54:00:00:00:01"})
	if !errors.Is(err, vmnetd.ErrBusy) || !contains(err, "vm1/net0") {
		t.Errorf("%v", err)
	}
}

func contains(err error, part string) bool {
	return err != nil && strings.Contains(err.Error(), part)
}

func (*fixed) Kept() ([]WantedVM, error)           { return nil, nil }
func (*fixed) Keep(vmnetd.Request) (bool, error)   { return false, nil }
func (*fixed) Unkeep(string, string) (bool, error) { return false, nil }
