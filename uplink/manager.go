package uplink

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// Options of a Manager.
type Options struct {
	Conn    *rtnl.Conn
	Links   Mirror // of the same namespace
	Finder  *Finder
	Teams   *teaming.Teams
	Units   Units  // runs guards, nil where systemd does not run
	LibDir  string // outlives a reboot
	RunDir  string
	Root    string // of the host's own configuration: /
	Program string // our own executable, which the guard runs
	Boot    string // id of this boot
	FP      failpoint.Set
	Log     *slog.Logger

	// Announce tells the neighbours of addresses of the host that moved to a
	// device; nil: they are told here, once.
	Announce func(ifindex int, addrs []netip.Prefix)
}

// Units starts services (internal/bus.Systemd).
type Units interface {
	StartService(ctx context.Context, name, description string, argv []string) error
}

// Manager makes, changes, watches and repairs the uplinks that are ours. What
// it was told outlives it: see store.
type Manager struct {
	changer
	o    Options
	tell func(vmnetd.Event)

	// in orders this process's own changes before they wait for the file lock,
	// which the guard takes too.
	in chan struct{}

	mu        sync.Mutex
	applied   applied
	ever      bool
	overrides overrides
	pending   *vmnetd.Applied // an apply that waits
	trial     []Spec          // what is declared by it
	takenBack string          // the last apply that was, in a sentence; "" since the next one
	due       time.Duration   // when it is taken back, since boot
	known     map[int]bool    // ifindexes of uplinks and ports, as last looked at
	names     map[string]bool // of their devices

	poke  chan struct{} // for Run: timers are set anew, or something is to be repaired
	again chan struct{}
}

// NewManager reads what was applied and said by hand. It changes nothing:
// Repair brings back what a reboot has removed.
func NewManager(o Options) (*Manager, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Announce == nil {
		o.Announce = greeter{o.Conn}.announce
	}
	m := &Manager{o: o, tell: func(vmnetd.Event) {}, in: make(chan struct{}, 1), poke: make(chan struct{}, 1), again: make(chan struct{}, 1)}
	m.changer = changer{
		kernel: newKernel(o), store: store{o.LibDir}, boot: o.Boot, fp: o.FP, log: o.Log, announce: o.Announce,
	}
	if err := m.store.open(); err != nil {
		return nil, err
	}
	return m, m.load()
}

// OnEvent has tell called with what happens by itself: a rollback, a repair. It
// must not block, and is set before anything else is asked for.
func (m *Manager) OnEvent(tell func(vmnetd.Event)) { m.tell = tell }

func (m *Manager) load() error {
	a, ever, err := m.store.loadApplied()
	if err != nil {
		return err
	}
	o, err := m.store.loadOverrides()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied, m.ever, m.overrides = a, ever, o
	return nil
}

// Applied is the uplinks as last applied: confirmed, or waiting for that.
func (m *Manager) Applied() (specs []Spec, at time.Time, ever bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending != nil {
		return slices.Clone(m.trial), m.applied.At, m.ever
	}
	return slices.Clone(m.applied.Specs), m.applied.At, m.ever
}

// kept is what was applied and what was said by hand, as of now.
func (m *Manager) kept() (applied, overrides, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, m.overrides, m.ever
}

// exclusive runs do while nobody else, in this process or another one, changes
// uplinks. What is on disk is read again when another process had the lock.
func (m *Manager) exclusive(ctx context.Context, do func(ctx context.Context) error) error {
	waitCtx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	select {
	case m.in <- struct{}{}:
	case <-waitCtx.Done():
		return errChanging
	}
	defer func() { <-m.in }()
	unlock, err := m.store.acquire(waitCtx)
	if err != nil {
		return err
	}
	defer unlock()
	return do(ctx)
}

var errChanging = vmnetd.Errorf(vmnetd.ErrBusy, "the uplinks are being changed by another call").
	WithNext("wait a moment; vmnetd uplink list  shows what is")

// change stores overrides that do has changed.
func (m *Manager) change(do func(o overrides)) error {
	m.mu.Lock()
	o := m.overrides.clone()
	m.mu.Unlock()
	do(o)
	if err := m.store.saveOverrides(o); err != nil {
		return err
	}
	m.mu.Lock()
	m.overrides = o
	m.mu.Unlock()
	m.wake(m.poke)
	return nil
}

func (m *Manager) wake(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// declared is what specs are resolved to on this host, with what is kept.
func (m *Manager) declared(ctx context.Context, specs []Spec) Declared {
	a, _, _ := m.kept()
	return Declared{Specs: specs, Devices: m.devices(ctx, specs), MACs: a.MACs, Made: a.Made}
}

// devices is the device names of uplinks that are matched, not made.
func (m *Manager) devices(ctx context.Context, specs []Spec) map[string]string {
	names := map[string]string{}
	for _, spec := range specs {
		if made(spec) {
			continue
		}
		if link, err := m.o.Finder.Link(ctx, spec); err == nil {
			names[spec.Name] = link.Name
		}
	}
	return names
}

// made says that the device of an uplink is made by us, and so is named as it.
func made(s Spec) bool { return s.Kind != vmnetd.UplinkNIC && s.Kind != vmnetd.UplinkExternal }

// settle looks at the checkpoint that an earlier apply has left: taken back if
// its time is up or it was killed, dropped if the machine was started anew, and
// otherwise left to wait. Whoever calls it holds the lock.
func (m *Manager) settle(ctx context.Context) error {
	m.hear()
	c, err := m.store.loadCheckpoint()
	switch {
	case errors.Is(err, os.ErrNotExist):
		m.wait(nil, checkpoint{})
		return nil
	case err != nil:
		return err
	case m.store.settled(c):
		m.wait(nil, checkpoint{})
		return m.store.dropCheckpoint()
	case c.Boot != m.boot:
		m.wait(nil, checkpoint{})
		m.tellUndone(undone{ID: c.ID, At: time.Now(), Why: "the machine was started anew before anybody confirmed it"})
		return m.store.dropCheckpoint()
	case !c.due(proc.SinceBoot()):
		m.wait(&vmnetd.Applied{ID: c.ID, At: c.At, Until: c.Until, Changed: true}, c)
		return nil
	}
	why := "nobody confirmed it in time"
	if c.Phase == changing {
		why = "vmnetd was killed in the middle of it"
	}
	err = m.takeBackAndTell(ctx, c, why)
	m.wait(nil, checkpoint{})
	m.hear()
	return err
}

// hear tells of a rollback that was carried out by somebody else.
func (m *Manager) hear() {
	if u, ok := m.store.told(); ok {
		m.tellUndone(u)
	}
}

func (m *Manager) tellUndone(u undone) {
	text := "uplink apply " + u.ID + " was taken back: " + u.Why
	if u.Error != "" {
		text += "; not all of it: " + u.Error
	}
	m.remark(text)
	m.tell(vmnetd.Event{Time: u.At, Event: "rolled-back", Text: text})
}

// wait sets or ends the apply that waits, and Run's timer with it.
func (m *Manager) wait(a *vmnetd.Applied, c checkpoint) {
	m.mu.Lock()
	m.pending, m.due, m.trial = a, c.Due, c.After.Specs
	m.mu.Unlock()
	m.wake(m.poke)
}

// remark keeps what TakenBack says.
func (m *Manager) remark(takenBack string) {
	m.mu.Lock()
	m.takenBack = takenBack
	m.mu.Unlock()
}

// TakenBack says in a sentence that an apply was taken back which nobody asked
// for, until the next one; "" where none was. A restart forgets it.
func (m *Manager) TakenBack() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.takenBack
}

// Waiting is the apply that waits to be confirmed, nil when none does.
func (m *Manager) Waiting() *vmnetd.Applied {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		return nil
	}
	a := *m.pending
	return &a
}
