package uplink

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// changer carries steps out and takes an apply back: the daemon has one, and
// so has the guard that acts when the daemon is dead.
type changer struct {
	kernel   *kernel
	store    store
	boot     string
	fp       failpoint.Set
	log      *slog.Logger
	announce func(ifindex int, addrs []netip.Prefix)
}

// do carries steps out, the first failure ends it.
func (c *changer) do(ctx context.Context, steps []Step) error {
	for _, s := range steps {
		if err := c.fp.Hit(failpoint.UplinkStep); err != nil {
			return err
		}
		if err := c.kernel.run(ctx, s); err != nil {
			return err
		}
		c.log.Info("uplink step", "step", s.text(), "ifname", s.Device)
	}
	return nil
}

// doAll carries out what it can: a step on a device that an earlier one failed
// on is left out.
func (c *changer) doAll(ctx context.Context, steps []Step) error {
	var errs []error
	failed := map[string]bool{}
	for _, s := range steps {
		if failed[s.Device] || failed[s.Master] {
			continue
		}
		if err := c.kernel.run(ctx, s); err != nil {
			c.log.Warn("uplink step failed", "step", s.text(), "ifname", s.Device, "err", err)
			errs = append(errs, err)
			failed[s.Device] = true
			continue
		}
		c.log.Info("uplink step", "step", s.text(), "ifname", s.Device)
	}
	return errors.Join(errs...)
}

// passes is how often a rollback looks what is left to take back: what failed
// because of something that a later step put right works the second time.
const passes = 2

// takeBack undoes an apply: what is, compared with what was. Whoever calls it
// holds the lock. The checkpoint is gone afterwards, whatever failed: there is
// nothing better to try, and the next start must not try it again.
func (c *changer) takeBack(ctx context.Context, cp checkpoint) error {
	if err := c.fp.Hit(failpoint.UplinkRollback); err != nil {
		return err
	}
	c.log.Warn("taking an apply of uplinks back", "apply", cp.ID)
	var err error
	for range passes {
		var steps []Step
		steps, err = c.wayBack(ctx, cp)
		if err != nil || len(steps) == 0 {
			break
		}
		err = c.doAll(ctx, steps)
		c.announceMoved(ctx, steps)
		if err == nil {
			break
		}
	}
	if fp := c.fp.Hit(failpoint.UplinkRolledBack); fp != nil {
		return fp
	}
	return errors.Join(err, c.store.dropCheckpoint())
}

func (c *changer) wayBack(ctx context.Context, cp checkpoint) ([]Step, error) {
	is, err := c.kernel.look(ctx)
	if err != nil {
		return nil, err
	}
	return diff(is, cp.back(is)), nil
}

// announceMoved tells the neighbours of host addresses that came to a device:
// they have its old MAC, or look for it at another switch port.
func (c *changer) announceMoved(ctx context.Context, steps []Step) {
	came := map[string][]netip.Prefix{}
	for _, s := range steps {
		if s.Verb == verbAddrAdd && s.Addr != nil {
			came[s.Device] = append(came[s.Device], s.Addr.Prefix)
		}
	}
	for name, addrs := range came {
		if l, err := c.kernel.conn.LinkByName(ctx, name); err == nil {
			c.announce(l.Index, addrs)
		}
	}
}

// sortedSet is each name once, in order.
func sortedSet(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
