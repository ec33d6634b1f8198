package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

// scripted is a configuration source that fails where it is told to.
type scripted struct {
	accepted, candidate                  Config
	acceptedErr, candidateErr, acceptErr error
}

func (s *scripted) Candidate() (Config, error) { return s.candidate, s.candidateErr }
func (s *scripted) Accepted() (Config, error)  { return s.accepted, s.acceptedErr }
func (s *scripted) Name() string               { return "vmnetd.yaml" }

func (*scripted) Kept() ([]WantedVM, error)           { return nil, nil }
func (*scripted) Keep(vmnetd.Request) (bool, error)   { return false, nil }
func (*scripted) Unkeep(string, string) (bool, error) { return false, nil }

func (s *scripted) Accept(c Config) error {
	if s.acceptErr == nil {
		s.accepted, s.acceptedErr = c, nil
	}
	return s.acceptErr
}

// fresh is an agent that does not run.
func fresh(t *testing.T, w *agenttest.World, src ConfigSource) *Agent {
	t.Helper()
	dir := t.TempDir()
	return New(Options{
		Config: src, Links: agenttest.Links{W: w}, Uplinks: agenttest.Uplinks{W: w}, Devices: agenttest.Devices{W: w},
		Hypervisor: agenttest.Hypervisor{W: w}, Provisioner: agenttest.Provisioner{W: w}, Announcer: agenttest.Announcer{W: w},
		Rooms: agenttest.Rooms{W: w}, Filters: agenttest.Filters{W: w}, Learner: agenttest.Learner{W: w}, HostLinks: agenttest.HostLinks{W: w}, StateDir: dir, LibDir: dir, Boot: "boot", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func TestWhatTheStartRunsOn(t *testing.T) {
	bad, corrupt := errors.New("vmnetd.yaml:1:1: nonsense"), errors.New("accepted.yaml is cut short")
	named := func(raw string) Config { return Config{Raw: []byte(raw)} }
	for name, c := range map[string]struct {
		src     scripted
		refused bool
		runs    string
		fails   error
		edited  bool
		cfgErr  error
	}{
		"what was accepted":                   {src: scripted{accepted: named("a"), candidate: named("a")}, runs: "a"},
		"what was accepted, files edited":     {src: scripted{accepted: named("a"), candidate: named("b")}, runs: "a", edited: true},
		"what was accepted, files bad":        {src: scripted{accepted: named("a"), candidateErr: bad}, runs: "a", cfgErr: bad},
		"nothing accepted, files good":        {src: scripted{acceptedErr: os.ErrNotExist, candidate: named("b")}, runs: "b"},
		"nothing accepted, files bad":         {src: scripted{acceptedErr: os.ErrNotExist, candidateErr: bad}, fails: bad},
		"nothing accepted, cannot be kept":    {src: scripted{acceptedErr: os.ErrNotExist, candidate: named("b"), acceptErr: corrupt}, fails: corrupt},
		"accepted is corrupt, files good":     {src: scripted{acceptedErr: corrupt, candidate: named("b")}, runs: "b"},
		"accepted is corrupt, files bad":      {src: scripted{acceptedErr: corrupt, candidateErr: bad}, fails: bad},
		"accepted is corrupt, cannot be kept": {src: scripted{acceptedErr: corrupt, candidate: named("b"), acceptErr: bad}, fails: bad},
		"patterns are refused":                {src: scripted{accepted: named("a"), candidate: named("a")}, refused: true, fails: agenttest.ErrInjected},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			if c.refused {
				w.Refuse("Configure", 1)
			}
			a := fresh(t, w, &c.src)
			err := a.loadConfig()
			if !errors.Is(err, c.fails) || (err == nil) != (c.fails == nil) {
				t.Fatalf("error %v, want %v", err, c.fails)
			}
			if err != nil {
				if c.refused {
					w.Refuse("Configure", 1)
				}
				if run := a.Run(t.Context()); !errors.Is(run, c.fails) {
					t.Errorf("Run = %v", run)
				}
				return
			}
			if string(a.cfg.Raw) != c.runs || a.edited != c.edited || !errors.Is(a.cfgErr, c.cfgErr) {
				t.Errorf("runs on %q, edited %v, wrong %v", a.cfg.Raw, a.edited, a.cfgErr)
			}
		})
	}
}

func TestReloadDuringTheStartWaitsForItsEnd(t *testing.T) {
	a := fresh(t, newWorld(), &scripted{candidate: testConfig(vmnetd.Request{VM: "vm1", ID: "net0"})})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Reload(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Reload of an agent that never ran: %v", err)
	}
}

func TestReloadThatCannotBePutInForceChangesNothing(t *testing.T) {
	for _, what := range []string{"patterns", "accept"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld()
			src := &scripted{accepted: testConfig(), candidate: testConfig()}
			a := fresh(t, w, src)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- a.Run(ctx) }()
			<-a.Ready()
			src.candidate = Config{Raw: []byte("new")}
			if what == "patterns" {
				w.Refuse("Configure", 1)
			} else {
				src.acceptErr = agenttest.ErrInjected
			}
			if err := a.Reload(t.Context()); !errors.Is(err, agenttest.ErrInjected) {
				t.Errorf("Reload = %v", err)
			}
			if string(src.accepted.Raw) == "new" || string(a.config().Raw) == "new" {
				t.Error("it is what the next start, or this one, runs on")
			}
			if p := a.Status().Problems; len(p) != 1 || p[0].Level != vmnetd.LevelFail || p[0].Name != "configuration" {
				t.Errorf("problems: %+v", p)
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReloadKnowsTheVMThatARuleNamesByItsUUID(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	w.SetUUID("vm1", "11111111-2222-3333-4444-555555555555")
	cfg := testConfig()
	cfg.Policy.Rules = []policy.Rule{{UUID: []string{"11111111-2222-3333-4444-555555555555"}, Networks: []string{"lan"}, At: policy.Pos{File: "vmnetd.yaml", Line: 7, Col: 5}}}
	h := newHost(t, w, cfg)
	a := h.start()
	before := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	reconciled(t, a, "vm1")
	if now := a.List("vm1")[0]; now.Problem != "" || now.MAC != before.MAC {
		t.Errorf("the same rules over again: %+v", now)
	}
}

func TestUplinkThatTheConfigurationHasNoMoreIsGoneAndItsNICsStay(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	heard := h.subscribe()
	att := attach(t, a, vmnetd.Request{VM: "vm1", ID: "net0"})
	w.SetMTU("u0", 1501) // the subscriber hears of u0
	eventually(t, "u0 is known", func() error {
		if u := heard.uplink("u0"); u.MTU != 1501 || u.Guests != 1 {
			return fmt.Errorf("%+v", u)
		}
		return nil
	})
	h.cfg.next = testConfig()
	h.cfg.next.Uplinks = []uplink.Spec{{Name: "u1", Device: "u1"}}
	h.cfg.next.Policy.Uplinks = []string{"u1"}
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u := heard.uplink("u0"); u.Name != "" {
		t.Errorf("subscribers still know %+v", u)
	}
	reconciled(t, a, "vm1")
	if now := a.List("vm1")[0]; now.Phase != vmnetd.Attached || !strings.HasPrefix(now.Problem, "pending: next start: ") {
		t.Errorf("%+v", now)
	}
	w.DeleteDevice(att.Ifname)
	eventually(t, "its device is deleted", func() error {
		if now := a.List("vm1")[0]; now.Phase != vmnetd.Broken || !strings.Contains(now.Problem, "uplink u0 is not in the configuration any more") {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	h.cfg.next = testConfig()
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "declared again", func() error { return h.works("vm1", "net0") })
}

func TestListedNICThatIsDeniedComesWithTheReloadThatAllowsIt(t *testing.T) {
	w := newWorld()
	w.StartVM("evil")
	req := vmnetd.Request{VM: "evil", ID: "net0", Network: "lan"}
	h := newHost(t, w, testConfig(req))
	a := h.start()
	heard := h.subscribe()
	if list := a.List("evil"); len(list) != 1 || list[0].Phase != vmnetd.Pending || !strings.Contains(list[0].Problem, "INC-1") {
		t.Fatalf("%+v", list)
	}
	for range 3 {
		reconciled(t, a, "evil")
	}
	if n := heard.count("denied"); n != 0 {
		t.Errorf("%d more denied events of what was told already", n)
	}
	if _, err := a.Attach(t.Context(), Caller{}, req); !errors.Is(err, vmnetd.ErrDenied) || heard.count("denied") != 1 {
		t.Errorf("attach of it by hand: %v, %d events", err, heard.count("denied"))
	}
	h.cfg.next = testConfig(req)
	h.cfg.next.Policy.Rules = h.cfg.next.Policy.Rules[1:]
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "allowed", func() error { return h.works("evil", "net0") })
}

func TestListedNICThatCannotBeHad(t *testing.T) {
	req := vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}
	pending := func(t *testing.T) (*host, *told) {
		w := newWorld()
		w.StartVM("vm1")
		w.RemoveUplink("u0")
		h := newHost(t, w, testConfig(req))
		a := h.start()
		heard := h.subscribe()
		if list := a.List("vm1"); len(list) != 1 || list[0].Phase != vmnetd.Pending || list[0].MAC != "" || list[0].Problem == "" {
			t.Fatalf("%+v", list)
		}
		return h, heard
	}
	gone := func(t *testing.T, h *host, heard *told) func() error {
		return func() error {
			if list := h.agent.List("vm1"); len(list) != 0 {
				return fmt.Errorf("listed: %+v", list)
			}
			if att, ok := heard.attachment("vm1/net0"); ok {
				return fmt.Errorf("subscribers know %+v", att)
			}
			if left := onDisk(t, h); len(left) != 0 {
				return fmt.Errorf("on disk: %v", left)
			}
			return nil
		}
	}
	t.Run("comes when it can", func(t *testing.T) {
		h, heard := pending(t)
		h.w.AddUplink("u0", uplinkMAC)
		eventually(t, "uplink there", func() error { return h.works("vm1", "net0") })
		if n := heard.count("refused"); n > 1 {
			t.Errorf("%d refused events", n)
		}
	})
	t.Run("is not wanted any more", func(t *testing.T) {
		h, heard := pending(t)
		h.cfg.next = testConfig()
		if err := h.agent.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "reloaded", gone(t, h, heard))
	})
	t.Run("is not wanted any more, without a disk", func(t *testing.T) {
		h, heard := pending(t)
		h.cfg.next = testConfig()
		back := h.noDisk()
		if err := h.agent.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		reconciled(t, h.agent, "vm1")
		if list := h.agent.List("vm1"); len(list) != 1 {
			t.Errorf("forgotten in memory alone: %+v", list)
		}
		back()
		eventually(t, "disk back", gone(t, h, heard))
	})
	t.Run("goes with its VM", func(t *testing.T) {
		h, heard := pending(t)
		h.w.StopVM("vm1")
		eventually(t, "VM ended", gone(t, h, heard))
	})
	t.Run("is detached until the next start", func(t *testing.T) {
		h, heard := pending(t)
		back := h.noDisk()
		if _, err := h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0"}); !errors.Is(err, vmnetd.ErrFailed) {
			t.Errorf("detach without a disk: %v", err)
		}
		back()
		if _, err := h.agent.Detach(t.Context(), Caller{}, "vm1", Selector{ID: "net0"}); err != nil {
			t.Fatal(err)
		}
		h.w.AddUplink("u0", uplinkMAC)
		reconciled(t, h.agent, "vm1")
		if err := gone(t, h, heard)(); err != nil {
			t.Error(err)
		}
		h.w.StartVM("vm1")
		eventually(t, "next start", func() error { return h.works("vm1", "net0") })
	})
	t.Run("is attached by hand", func(t *testing.T) {
		h, _ := pending(t)
		if _, err := h.agent.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", ID: "net0", Network: "lan"}); !contains(err, "not on this host") {
			t.Errorf("attach: %v", err)
		}
	})
	t.Run("its VM does not answer", func(t *testing.T) {
		w := newWorld()
		w.StartVM("vm1")
		w.SetBusy("vm1", true)
		h := newHost(t, w, testConfig(req))
		a := h.start()
		if list := a.List("vm1"); len(list) != 1 || !strings.Contains(list[0].Problem, "busy") {
			t.Errorf("%+v", list)
		}
		w.SetBusy("vm1", false)
		eventually(t, "free", func() error { return h.works("vm1", "net0") })
	})
}
