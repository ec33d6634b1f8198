package uplink

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

const (
	// quiet is how long links must be silent before they are repaired: one
	// change brings several messages.
	quiet = 50 * time.Millisecond
	// A repair that fails is tried again after that, each time twice as late.
	firstPause = time.Second
	lastPause  = time.Minute
)

// Run follows teamd, links and time: it repairs what is missing, takes an apply
// back that nobody confirms, and ends holds. changed is told of paths that
// teamd changes; those of bonds are the mirror's to tell.
func (m *Manager) Run(ctx context.Context, changed func(ifindex int)) error {
	m.o.Links.OnChange(m.linkChanged)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.followTeams(ctx, changed) })
	group.Go(func() error { return m.followTime(ctx, changed) })
	group.Go(func() error { return m.followLinks(ctx) })
	return group.Wait()
}

// linkChanged hears of every link. It must not block.
func (m *Manager) linkChanged(ifindex int) {
	switch l, ok := m.o.Links.ByIndex(ifindex); {
	case ok:
		m.noticeTeam(l)
	case ifindex == 0: // the mirror was filled, or filled again: any team may have come
		m.noticeTeams()
	default:
		m.o.Teams.Forget(ifindex)
	}
	if ifindex == 0 || m.concerns(ifindex) {
		m.wake(m.again)
	}
}

// Concerns says whether news of a link can be news of these uplinks: it is one that
// was applied, a port of one, or what is declared.
func (m *Manager) Concerns(ifindex int, specs []Spec) bool {
	if m.concerns(ifindex) {
		return true
	}
	l, ok := m.o.Links.ByIndex(ifindex)
	return ok && slices.ContainsFunc(specs, func(s Spec) bool { return m.o.Finder.fits(s, l) })
}

// concerns says whether a link can be one that is to be repaired: an uplink or
// a port of one, now or when it was last looked at.
func (m *Manager) concerns(ifindex int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[ifindex] {
		return true
	}
	l, ok := m.o.Links.ByIndex(ifindex)
	return ok && m.names[l.Name]
}

// remember keeps what concerns says: the devices that are there, and the ports
// that are declared and may come.
func (m *Manager) remember(is, want World, d Declared) {
	known, names := map[int]bool{}, map[string]bool{}
	for name := range want {
		if want.ours(name) {
			known[is[name].Index], names[name] = true, true
		}
	}
	for _, spec := range d.Specs {
		for _, port := range d.devicesOf(spec.Under()) {
			names[port] = true
		}
	}
	delete(known, 0)
	m.mu.Lock()
	m.known, m.names = known, names
	m.mu.Unlock()
}

// followLinks repairs after changes, and again after a while what could not be
// repaired.
func (m *Manager) followLinks(ctx context.Context) error {
	pause := firstPause
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.again:
			if !sleep(ctx, quiet) {
				return nil
			}
		case <-retry:
		}
		m.drained()
		err := m.Repair(ctx)
		if err == nil || ctx.Err() != nil {
			pause, retry = firstPause, nil
			continue
		}
		m.log.Warn("uplinks cannot be repaired: trying again", "after", pause, "err", err)
		retry = time.After(pause)
		if !sleep(ctx, pause/2) { // what the failed attempt itself has changed is no news
			return nil
		}
		m.drained()
		pause = min(2*pause, lastPause)
	}
}

// drained forgets wishes for a repair that is about to begin.
func (m *Manager) drained() {
	select {
	case <-m.again:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// followTime takes an apply back when its time is up, and converges an uplink
// again when it is held no more.
func (m *Manager) followTime(ctx context.Context, changed func(int)) error {
	for {
		var ring <-chan time.Time
		if next, ok := m.nextMoment(); ok {
			ring = time.After(next)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.poke:
			continue
		case <-ring:
		}
		m.settleInTime(ctx)
		m.wake(m.again)
		changed(0)
	}
}

// nextMoment is how long it is until an apply is taken back or a hold ends.
func (m *Manager) nextMoment() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hold := m.overrides.nextHold(time.Now())
	switch {
	case m.pending != nil && (hold.IsZero() || m.due-proc.SinceBoot() < time.Until(hold)):
		return m.due - proc.SinceBoot(), true
	case !hold.IsZero():
		return time.Until(hold), true
	}
	return 0, false
}

func (m *Manager) settleInTime(ctx context.Context) {
	if err := m.exclusive(ctx, m.settle); err != nil && ctx.Err() == nil {
		m.log.Error("an apply that nobody confirmed could not be taken back", "err", err)
		sleep(ctx, firstPause)
	}
}

// Mirror is the mirror of links with its news (rtnl.Watch).
type Mirror interface {
	Links
	ByName(name string) (rtnl.Link, bool)
	OnChange(changed func(ifindex int))
}
