package teaming

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/vmnetd/vmnetd/internal/proc"
)

var netlinkOrder = binary.NativeEndian

// Run follows the team driver and the teamd of every team noticed. changed hears of
// teams, by ifindex, whose ports teamd has given another part to play; controller
// hears of teams whose teamd has ended, or has come or gone on the bus ("": any
// may have). Neither may block.
func (t *Teams) Run(ctx context.Context, changed func(ifindex int), controller func(team string)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.followDriver(ctx, changed) })
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.bell:
				for _, team := range t.unwatched() {
					group.Go(func() error { t.await(ctx, team, controller); return nil })
				}
			case team := <-t.heard:
				controller(team)
			}
		}
	})
	return group.Wait()
}

// Heard takes news of a name on the bus; "" is news of the bus itself.
func (t *Teams) Heard(name string) {
	select {
	case t.heard <- strings.TrimPrefix(name, BusName+"."):
	default: // so much news that what is there has everything looked at
	}
}

// followDriver subscribes once there is a team to hear of: without one the
// driver may not be loaded, and nothing is to be done.
func (t *Teams) followDriver(ctx context.Context, changed func(ifindex int)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case team := <-t.noticed:
			f, err := t.subscribe()
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = errors.Join(t.hearDriver(ctx, f, team, changed), f.conn.Close())
			}
			if err != nil {
				t.o.Log.Warn("the team driver cannot be followed: subscribing again", "err", err)
				t.again(team)
			}
		}
	}
}

// again has every team looked at by a new subscription.
func (t *Teams) again(team int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.live)
	t.ask(team)
	for team := range t.names {
		t.ask(team)
	}
}

// hearDriver asks about each team that is noticed, and listens, as long as the
// subscription lasts.
func (t *Teams) hearDriver(ctx context.Context, f *feed, team int, changed func(int)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.listen(ctx, f, changed) })
	group.Go(func() error {
		for {
			if err := f.ask(team); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case team = <-t.noticed:
			}
		}
	})
	return group.Wait()
}

// unwatched is the teams whose teamd is to be followed and is not; from now on
// they count as followed.
func (t *Teams) unwatched() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var teams []string
	for _, team := range t.names {
		if !t.watched[team] {
			t.watched[team] = true
			teams = append(teams, team)
		}
	}
	return teams
}

// await tells when the teamd of a team has ended; none that runs is nothing to
// tell.
func (t *Teams) await(ctx context.Context, team string, ended func(string)) {
	p, err := proc.Open(t.pid(team), 0)
	if err == nil {
		err = p.Wait(ctx)
		_ = p.Close()
	}
	t.mu.Lock()
	delete(t.watched, team)
	t.mu.Unlock()
	if err == nil {
		t.o.Log.Warn("teamd has ended", "team", team)
		ended(team)
	}
}
