package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/policy"
)

// Options is the world that an Agent works in. All fields but FP must be set.
type Options struct {
	Config      ConfigSource
	Links       Links
	Uplinks     Uplinks
	Provisioner Provisioner
	Announcer   Announcer
	Devices     Devices
	Hypervisor  Hypervisor
	Rooms       Rooms
	Filters     Filters
	Learner     Learner
	HostLinks   HostLinks

	StateDir string // state.json; gone at reboot, as the devices are
	LibDir   string // events
	Boot     string // /proc/sys/kernel/random/boot_id
	Machine  string // /etc/machine-id: what MACs of VMs without a UUID derive from
	Version  string
	Log      *slog.Logger
	FP       failpoint.Set
	Backoff  time.Duration // first wait before a failed converge is tried again; it doubles up to a hundredfold
}

// Agent implements API.
type Agent struct {
	o       Options
	store   *store
	journal *journal
	turns   *turns
	ready   chan struct{}
	started time.Time
	wake    *wake
	paths   *paths
	offers  *offers
	retries retries
	owners  owners
	ears    ears
	links   hostLinks
	subs    subscribers

	deciding  sync.Mutex // one decision until it is written down: the next one counts it
	reloading sync.Mutex // one Reload at a time: what runs is what was accepted last
	vlans     sync.Mutex // one change of VLAN devices at a time: the last NIC goes, or the first comes
	looking   sync.Mutex // one look at the uplinks at a time: the later one has the last word

	mu       sync.Mutex // guards what follows; never held across a call into the world
	cfg      Config
	kept     []WantedVM // NICs that attach --config wrote down
	keptErr  error
	cfgErr   error // what is wrong with the files of the operator, nil when they are what runs
	edited   bool  // the files are good but not what runs
	declined declined
	uplinks  map[string]vmnetd.UplinkState
	filled   map[string]int // by uplink: with how many MACs its unicast filter was full
	stateErr error          // what was wrong with the state file at the start
	swept    bool           // the devices that no record names were looked for
	early    []hypervisor.Sighting
}

// declined is a good configuration that could not be put in force.
type declined struct {
	raw string
	err error
}

// New makes an agent; Run brings it to life.
func New(o Options) *Agent {
	o.Hypervisor = away{o.Hypervisor}
	if o.Backoff == 0 {
		o.Backoff = 250 * time.Millisecond
	}
	a := &Agent{
		o:       o,
		store:   newStore(filepath.Join(o.StateDir, "state.json"), o.Boot, o.FP),
		journal: newJournal(filepath.Join(o.LibDir, "events")),
		ready:   make(chan struct{}),
		started: time.Now(),
		wake:    newWake(),
		paths:   newPaths(),
		uplinks: map[string]vmnetd.UplinkState{},
		filled:  map[string]int{},
		links: hostLinks{
			path: filepath.Join(o.LibDir, "hostlinks.json"), bell: make(chan struct{}, 1),
			want: map[string]wantedHostLink{}, is: map[string]vmnetd.HostLink{}, rest: map[string]bool{},
		},
		offers:  newOffers(),
		retries: retries{first: o.Backoff},
	}
	o.Provisioner.OnEvent(a.uplinksTouched)
	return a
}

// Ready is closed once every attachment was looked at after the start: only
// then are calls taken.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// stopGrace is how long work under way may go on after a stop was asked for.
const stopGrace = 5 * time.Second

// Run converges until ctx ends. Guests keep their NICs then. It fails when
// there is no configuration to run on, or the kernel cannot be watched.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.loadConfig(); err != nil {
		return err
	}
	jobs, cancelJobs := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelJobs()
	a.turns = newTurns(jobs)
	a.owners.init(jobs, a.ownerEnded)

	g, ctx := errgroup.WithContext(ctx)
	a.o.Links.OnChange(a.linkChanged)
	a.o.Links.OnAddr(a.addressChanged)
	g.Go(func() error { return a.o.Links.Run(ctx) })
	g.Go(func() error { return a.o.Announcer.Run(ctx) })
	g.Go(func() error { return a.o.Provisioner.Run(ctx, a.linkChanged) })
	g.Go(func() error { return a.followPaths(ctx) })
	g.Go(func() error { return a.followHostLinks(ctx) })
	g.Go(func() error { return a.o.Learner.Run(ctx, a.heard) })
	g.Go(func() error { return a.o.Filters.Watch(ctx, a.filtersLost) })
	g.Go(func() error { return a.o.Rooms.Run(ctx, a.roomChanged) })
	g.Go(func() error {
		if err := a.o.Links.Sync(ctx); err != nil {
			return err
		}
		return a.serve(ctx, g)
	})
	err := g.Wait()
	stop := time.AfterFunc(stopGrace, cancelJobs)
	defer stop.Stop()
	a.retries.stop()
	a.offers.stop()
	a.paths.stop()
	a.turns.close()
	cancelJobs()
	a.owners.wait()
	return err
}

func (a *Agent) serve(ctx context.Context, g *errgroup.Group) error {
	if err := a.store.load(); err != nil {
		a.o.Log.Error("state file", "err", err)
		a.mu.Lock()
		a.stateErr = err
		a.mu.Unlock()
	}
	a.loadFilled()
	if err := a.links.load(); err != nil {
		a.o.Log.Error("host links", "err", err)
	}
	a.lookAtHostLinks()
	a.startUplinks(ctx)
	a.refreshUplinks(ctx)
	begun := make(chan struct{})
	g.Go(func() error {
		return a.o.Hypervisor.Run(ctx, func(s hypervisor.Sighting) { a.saw(s, begun) })
	})
	select {
	case <-begun: // a VM that goes from now on is told
	case <-ctx.Done():
		return nil
	}
	if err := a.sweep(ctx); err != nil { // VMs are known by now, and whose a device is
		return fmt.Errorf("cannot look for devices of ours: %w", err)
	}
	if err := a.sweepRoom(ctx); err != nil {
		a.o.Log.Error("vmnetd's own namespace", "err", err)
	}
	a.dropFilters(ctx)
	early := a.sweptNow()
	a.reconcileAll(ctx)
	for _, s := range early {
		a.filterChanged(s)
	}
	close(a.ready)
	return a.follow(ctx)
}

// saw hears of VMs that come and go, and first of all that the watch has begun.
func (a *Agent) saw(s hypervisor.Sighting, begun chan<- struct{}) {
	if s == (hypervisor.Sighting{}) {
		close(begun)
		return
	}
	a.o.Log.Debug("sighting", "vm", s.Name, "via", s.Via, "here", s.Here, "filter", s.Filter)
	if a.tooEarly(s) {
		return
	}
	a.lookAgain(s.Name)
	a.filterChanged(s)
}

// filterChanged has the devices of a VM follow what its guest wants to receive.
func (a *Agent) filterChanged(s hypervisor.Sighting) {
	if s.Filter {
		a.turns.do(s.Name, func(ctx context.Context) { a.followFilters(ctx, s.Name) })
	}
}

// tooEarly puts a sighting off while the devices that no record names are looked
// for: nobody else may take one up meanwhile.
func (a *Agent) tooEarly(s hypervisor.Sighting) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.swept {
		a.early = append(a.early, s)
	}
	return !a.swept
}

// sweptNow has sightings looked at from now on, and returns those before.
func (a *Agent) sweptNow() []hypervisor.Sighting {
	a.mu.Lock()
	defer a.mu.Unlock()
	early := a.early
	a.swept, a.early = true, nil
	return early
}

// loadConfig starts from what was accepted last. Where nothing ever was, the
// files of the operator are accepted now.
func (a *Agent) loadConfig() error {
	accepted, err := a.o.Config.Accepted()
	candidate, candidateErr := a.o.Config.Candidate()
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist) && candidateErr == nil:
		if accepted, err = a.accept(candidate); err != nil {
			return err
		}
	case candidateErr != nil:
		return candidateErr
	default: // what was accepted cannot be read any more; the files are good
		a.o.Log.Error("accepted configuration", "err", err)
		if accepted, err = a.accept(candidate); err != nil {
			return err
		}
	}
	if candidateErr != nil {
		a.o.Log.Error("configuration is not in force: what was accepted last runs on", "err", candidateErr)
	}
	a.use(accepted, candidateErr, candidateErr == nil && string(candidate.Raw) != string(accepted.Raw))
	a.loadKept()
	return a.o.Hypervisor.Configure(accepted.Ways)
}

func (a *Agent) accept(cfg Config) (Config, error) {
	cfg.At = time.Now()
	return cfg, a.o.Config.Accept(cfg)
}

// lookAtFiles sees whether the operator's files are what runs; nothing of them
// comes in force.
func (a *Agent) lookAtFiles() {
	candidate, err := a.o.Config.Candidate()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.declined.err != nil && a.declined.raw == string(candidate.Raw) {
		err = a.declined.err
	}
	a.cfgErr, a.edited = err, err == nil && string(candidate.Raw) != string(a.cfg.Raw)
}

func (a *Agent) use(cfg Config, wrong error, edited bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg, a.cfgErr, a.edited, a.declined = cfg, wrong, edited, declined{}
}

// Reload puts what the operator has written in force. Running NICs stay as
// they are; a NIC that the new rules would make otherwise says so. One that
// comes during the start waits for its end.
func (a *Agent) Reload(ctx context.Context) error {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	cfg, err := a.acceptCandidate()
	if err != nil {
		a.mu.Lock()
		a.cfgErr, a.declined = err, declined{raw: string(cfg.Raw), err: err}
		a.mu.Unlock()
		a.o.Log.Error("reload: the configuration stays as it was", "err", err)
		return err
	}
	a.use(cfg, nil, false)
	a.loadKept()
	a.event(vmnetd.Event{Event: "reloaded", Text: "configuration accepted from " + a.o.Config.Name()})
	a.refreshUplinks(ctx)
	for _, r := range a.store.of("") {
		a.turns.do(r.VM, func(ctx context.Context) { a.markStale(ctx, r.key()) })
	}
	for vm := range a.concerned() {
		a.lookAgain(vm)
	}
	return nil
}

// acceptCandidate accepts nothing that cannot be put in force: every start would
// fail on it.
func (a *Agent) acceptCandidate() (Config, error) {
	cfg, err := a.o.Config.Candidate()
	if err != nil {
		return cfg, err
	}
	if err := a.o.Hypervisor.Configure(cfg.Ways); err != nil {
		return cfg, err
	}
	cfg, err = a.accept(cfg)
	if err != nil {
		err = errors.Join(err, a.o.Hypervisor.Configure(a.config().Ways))
	}
	return cfg, err
}

func (a *Agent) config() Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// markStale notes at a NIC what the present rules would give it.
func (a *Agent) markStale(ctx context.Context, k key) {
	r, ok := a.store.get(k)
	if !ok || !r.decided() || r.Phase == vmnetd.Detaching {
		return
	}
	req := r.Request
	req.ID = r.ID
	was := r.Stale
	r.Stale = ""
	vm := hypervisor.VM{Name: r.VM, UUID: r.UUID, VCPUs: r.Queues}
	if now, err := a.o.Hypervisor.Find(ctx, r.VM, r.Via); err == nil {
		vm.Labels, vm.Netns, vm.Trusted = now.Labels, now.Netns, now.Trusted
	} else if errors.Is(err, errOvertaken) {
		return
	}
	switch d, err := a.decide(ctx, req, vm); {
	case err != nil:
		r.Stale = "pending: next start: " + err.Error()
	case !differs(d, r):
		r = a.takeTerms(ctx, r, termsOf(d))
	default:
		r.Stale = fmt.Sprintf("pending: next start: %s on %s, by %s", d.Mode.WithKind(), d.Uplink, where(d.RuleAt))
	}
	if r.Stale != was {
		a.store.note(r)
		a.changed(r)
	}
}

func differs(d policy.Decision, r record) bool {
	return d.Mode != r.Mode || d.Uplink != r.Uplink || d.Network != r.Network || d.VLAN != r.VLAN
}

func where(p policy.Pos) string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}
