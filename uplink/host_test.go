package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// host is a namespace with NICs eno1 … whose far ends are in out, and a Manager
// with what it keeps in lib.
type host struct {
	*Manager
	ns, out *testkit.Netns
	watch   *rtnl.Watch
	lib     string

	mu     sync.Mutex
	events []vmnetd.Event
}

func newHost(t *testing.T, nics ...string) *host {
	t.Helper()
	testkit.Require(t, "vm")
	h := &host{ns: testkit.NewNetns(t), out: testkit.NewNetns(t), lib: t.TempDir()}
	t.Cleanup(func() { testkit.EndProcesses(t, h.lib) }) // guards
	for _, nic := range nics {
		testkit.NewVeth(t, h.ns, nic, h.out, "far-"+nic)
	}
	err := h.ns.Do(func() error {
		var err error
		h.watch, err = rtnl.OpenWatch()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.watch.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, h.watch.Run)
	h.start(t)
	return h
}

// run runs f until the test ends.
func run(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// start makes a Manager from what is kept, as the next daemon would.
func (h *host) start(t *testing.T, change ...func(*Options)) {
	t.Helper()
	m, err := newTestManager(h.ns.Conn(), h.watch, h.lib, func(o *Options) {
		for _, c := range change {
			c(o)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	m.OnEvent(func(e vmnetd.Event) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events = append(h.events, e)
	})
	h.Manager = m
}

func (h *host) told(event string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.events, func(e vmnetd.Event) bool { return e.Event == event })
}

func (h *host) apply(t *testing.T, specs []Spec, o vmnetd.ApplyOptions) vmnetd.Applied {
	t.Helper()
	a, err := h.Apply(t.Context(), specs, o)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return a
}

// there says whether a device is there.
func (h *host) there(t *testing.T, name string) bool {
	t.Helper()
	_, err := h.ns.Conn().LinkByName(t.Context(), name)
	if err != nil && !errors.Is(err, vmnetd.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func (h *host) masterOf(t *testing.T, name string) string {
	t.Helper()
	l := h.ns.Link(t, name)
	if l.Master == 0 {
		return ""
	}
	master, err := h.ns.Conn().LinkByIndex(t.Context(), l.Master)
	if err != nil {
		t.Fatal(err)
	}
	return master.Name
}

func (h *host) ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := h.ns.Command(context.Background(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// noCheckpoint waits until no apply is under way or waits any more.
func (h *host) noCheckpoint(t *testing.T) {
	t.Helper()
	eventually(t, "the checkpoint is gone", func() bool {
		_, err := os.Stat(filepath.Join(h.lib, "uplinks", "checkpoint.json"))
		return errors.Is(err, os.ErrNotExist)
	})
}

// daemon runs an order in a process of its own, with failpoints, and returns
// how it ended.
func (h *host) daemon(t *testing.T, o order, points string) error {
	t.Helper()
	o.Lib = h.lib
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := h.ns.Command(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), daemonEnv+"="+string(b), failpoint.Env+"="+points)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// eventually waits longer than an apply of a test does to be confirmed.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * testkit.Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
