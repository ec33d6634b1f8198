package uplink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

const (
	// confirmWithin is how long an apply waits for its confirmation where
	// nobody says otherwise.
	confirmWithin = 60 * time.Second
	// stepsLimit is how long the steps of an apply and their verification may
	// take; a guard that hears nothing for so long takes them back.
	stepsLimit = 60 * time.Second
)

// way is what an apply has to do: from what is to what is wanted.
type way struct {
	declared Declared
	is, want World
	steps    []Step
	plan     vmnetd.Plan
}

// Plan compares what is with want. names restricts it to these uplinks and what
// they stand on.
func (m *Manager) Plan(ctx context.Context, want []Spec, names []string) (vmnetd.Plan, error) {
	w, err := m.way(ctx, want, names)
	if err != nil {
		return vmnetd.Plan{}, err
	}
	w.plan.Pending = m.Waiting()
	return w.plan, nil
}

func (m *Manager) way(ctx context.Context, wanted []Spec, names []string) (way, error) {
	a, o, ever := m.kept()
	specs, err := chosen(a.Specs, wanted, names)
	if err != nil {
		return way{}, err
	}
	w := way{declared: m.declared(ctx, specs)}
	if w.is, err = m.kernel.look(ctx); err != nil {
		return way{}, err
	}
	o = o.clone()
	o.Temporary = nil // an apply puts right what was tried by hand
	var checks []vmnetd.Check
	w.want, checks = want(w.declared, w.is)
	w.want = steered(w.want, w.declared, o)
	w.steps = diff(w.is, w.want)
	w.plan = planOf(w.is, w.want, w.steps)
	w.plan.Never = !ever
	mind, boot := m.atBoot(w)
	w.plan.Mind = append(w.plan.Mind, mind...)
	w.plan.Problems = append(append(append(w.plan.Problems, checks...), boot...), m.refused(w)...)
	return w, nil
}

// refused is why the way cannot be gone.
func (m *Manager) refused(w way) []vmnetd.Check {
	if len(w.steps) == 0 {
		return nil
	}
	return refuse(w.is, w.want)
}

// chosen is the uplinks that an apply leaves: all that are wanted, or, of the
// names given and of what they stand on, what is wanted, and of the rest what
// was applied.
func chosen(applied, wanted []Spec, names []string) ([]Spec, error) {
	if len(names) == 0 {
		return wanted, nil
	}
	byName := map[string]Spec{}
	for _, s := range wanted {
		byName[s.Name] = s
	}
	take := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if take[name] {
			return
		}
		take[name] = true
		for _, under := range byName[name].Under() {
			add(under)
		}
	}
	for _, name := range names {
		if !specNamed(applied, name) && !specNamed(wanted, name) {
			return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %s", vmnetd.Printable(name)).WithNext("vmnetd uplink list")
		}
		add(name)
	}
	var specs []Spec
	for _, s := range wanted {
		if take[s.Name] {
			specs = append(specs, s)
		}
	}
	for _, s := range applied {
		if !take[s.Name] {
			specs = append(specs, s)
		}
	}
	return specs, nil
}

func specNamed(specs []Spec, name string) bool {
	return slices.ContainsFunc(specs, func(s Spec) bool { return s.Name == name })
}

// Apply carries a plan out: checkpoint, guard, steps, verification. What fails
// is taken back at once, what is not confirmed in time is taken back then.
func (m *Manager) Apply(ctx context.Context, want []Spec, o vmnetd.ApplyOptions) (done vmnetd.Applied, err error) {
	err = m.exclusive(ctx, func(ctx context.Context) error {
		if err := m.settle(ctx); err != nil {
			return err
		}
		if p := m.Waiting(); p != nil {
			return vmnetd.Errorf(vmnetd.ErrBusy, "apply %s waits to be confirmed until %s", p.ID, p.Until.Format(time.TimeOnly)).
				WithNext("vmnetd uplink confirm, or  vmnetd uplink rollback")
		}
		w, err := m.way(ctx, want, o.Uplinks)
		if err != nil {
			return err
		}
		if err := refusal(w.plan.Problems, o.Force); err != nil {
			return err
		}
		m.remark("")
		if len(w.steps) == 0 {
			return m.adopt(ctx, w)
		}
		done, err = m.transact(ctx, w, o)
		return err
	})
	return done, err
}

// refusal is the first problem as an error; force passes over what only the
// next boot would make of it.
func refusal(problems []vmnetd.Check, force bool) error {
	for _, p := range problems {
		if p.Level != vmnetd.LevelFail || force && p.Name == checkBoot {
			continue
		}
		next := p.Do
		if next == "" {
			next = "vmnetd uplink plan"
		}
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s", p.Text).WithNext(next)
	}
	return nil
}

// adopt keeps a declaration that holds already: nothing is touched, and from
// now on it is what every start brings back.
func (m *Manager) adopt(ctx context.Context, w way) error {
	a, _, ever := m.kept()
	if ever && reflect.DeepEqual(a.Specs, w.declared.Specs) {
		return nil
	}
	c := checkpoint{ID: newID(), After: m.after(w)}
	return m.commit(ctx, c)
}

// after is what a confirmation of the apply keeps.
func (m *Manager) after(w way) applied {
	next := applied{At: time.Now(), Specs: w.declared.Specs, MACs: map[string]string{}, Made: map[string]string{}}
	for _, s := range w.declared.Specs {
		if mac, ok := w.declared.MACs[s.Name]; ok {
			next.MACs[s.Name] = mac
		}
		if made(s) && s.Kind != vmnetd.UplinkVLAN && next.MACs[s.Name] == "" && w.want[s.Name].MAC != "" {
			next.MACs[s.Name] = w.want[s.Name].MAC
		}
		if made(s) {
			next.Made[s.Name] = w.want[s.Name].Kind
		}
	}
	return next
}

// transact changes the host under a checkpoint. Whoever calls it holds the lock.
func (m *Manager) transact(ctx context.Context, w way, o vmnetd.ApplyOptions) (vmnetd.Applied, error) {
	within := o.ConfirmWithin
	if within <= 0 {
		within = confirmWithin
	}
	c := checkpoint{ID: newID(), Boot: m.boot, At: time.Now(), Phase: changing, Before: w.is, Steps: w.steps, After: m.after(w)}
	c.After.ID = c.ID
	c.until(within + stepsLimit)
	if err := m.begin(ctx, c); err != nil {
		return vmnetd.Applied{}, errors.Join(err, m.store.dropCheckpoint())
	}
	if err := m.changeAndVerify(ctx, w); err != nil {
		return vmnetd.Applied{}, m.failed(ctx, c, err)
	}
	done := vmnetd.Applied{ID: c.ID, At: c.At, Changed: true}
	for _, s := range w.steps {
		done.Done = append(done.Done, s.text())
	}
	if o.NoConfirm {
		return done, m.commit(ctx, c)
	}
	c.Phase = waiting
	c.until(within)
	if err := m.store.saveCheckpoint(c); err != nil {
		return vmnetd.Applied{}, m.failed(ctx, c, err)
	}
	done.Until = c.Until
	m.wait(&done, c)
	return done, nil
}

// begin is all that must be in place before the first change.
func (m *Manager) begin(ctx context.Context, c checkpoint) error {
	if err := m.store.saveCheckpoint(c); err != nil {
		return err
	}
	if err := m.fp.Hit(failpoint.UplinkCheckpoint); err != nil {
		return err
	}
	if err := m.arm(ctx, c); err != nil {
		return err
	}
	return m.fp.Hit(failpoint.UplinkArmed)
}

func (m *Manager) changeAndVerify(ctx context.Context, w way) error {
	ctx, cancel := context.WithTimeout(ctx, stepsLimit)
	defer cancel()
	err := m.do(ctx, w.steps)
	if err == nil {
		m.announceMoved(ctx, w.steps)
		err = m.fp.Hit(failpoint.UplinkChanged)
	}
	if err == nil {
		err = m.verify(ctx, w)
	}
	if err == nil {
		err = m.fp.Hit(failpoint.UplinkVerified)
	}
	return err
}

// failed takes an apply back that did not do what it should, and says why.
func (m *Manager) failed(ctx context.Context, c checkpoint, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepsLimit)
	defer cancel()
	if err := m.takeBack(ctx, c); err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "%w; not all of the apply could be taken back: %v", why, err).WithNext("vmnetd uplink plan  shows what differs now")
	}
	next := vmnetd.NextOf(why)
	if next == "" {
		next = "vmnetd uplink plan"
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "%w; everything is as it was before", why).WithNext(next)
}

// commit keeps an apply.
func (m *Manager) commit(ctx context.Context, c checkpoint) error {
	if err := m.fp.Hit(failpoint.UplinkConfirm); err != nil {
		return err
	}
	c.After.At = time.Now()
	c.After.ID = c.ID
	m.readMACs(ctx, c.After)
	if err := m.store.saveApplied(c.After); err != nil {
		return err
	}
	if err := m.fp.Hit(failpoint.UplinkConfirmed); err != nil {
		return err
	}
	m.mu.Lock()
	m.applied, m.ever = c.After, true
	m.mu.Unlock()
	err := m.change(func(o overrides) {
		var all []string
		for _, s := range c.After.Specs {
			all = append(all, s.Name)
		}
		o.forget(c.After.Specs, all)
	})
	m.wait(nil, checkpoint{})
	return errors.Join(err, m.store.dropCheckpoint())
}

// readMACs records the MACs that devices got at their first apply.
func (m *Manager) readMACs(ctx context.Context, a applied) {
	for _, s := range a.Specs {
		if !made(s) || s.Kind == vmnetd.UplinkVLAN || a.MACs[s.Name] != "" {
			continue
		}
		if l, err := m.o.Conn.LinkByName(ctx, s.Name); err == nil {
			a.MACs[s.Name] = l.MAC.String()
		}
	}
}

// Confirm keeps the apply that waits; id "" is whichever does.
func (m *Manager) Confirm(ctx context.Context, id string) error {
	return m.exclusive(ctx, func(ctx context.Context) error {
		c, err := m.waitingFor(ctx, id)
		if err != nil {
			return err
		}
		return m.commit(ctx, c)
	})
}

// Rollback takes the apply that waits back.
func (m *Manager) Rollback(ctx context.Context, id string) error {
	return m.exclusive(ctx, func(ctx context.Context) error {
		c, err := m.waitingFor(ctx, id)
		if err != nil {
			return err
		}
		err = m.takeBack(ctx, c)
		m.wait(nil, checkpoint{})
		return err
	})
}

func (m *Manager) waitingFor(ctx context.Context, id string) (checkpoint, error) {
	if err := m.settle(ctx); err != nil {
		return checkpoint{}, err
	}
	c, err := m.store.loadCheckpoint()
	if errors.Is(err, os.ErrNotExist) {
		return c, vmnetd.Errorf(vmnetd.ErrNotFound, "no apply waits to be confirmed").WithNext("vmnetd uplink plan  shows whether there is anything to apply")
	}
	if err == nil && id != "" && id != c.ID {
		return c, vmnetd.Errorf(vmnetd.ErrNotFound, "the apply that waits is %s, not %s", c.ID, vmnetd.Printable(id)).WithNext(fmt.Sprintf("vmnetd uplink confirm %s", c.ID))
	}
	return c, err
}
