package agent

import (
	"context"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/uplink"
)

// startLimit is how long the uplinks may take at the start: guests and libvirt
// wait for the daemon. What is not there by then is degraded, and goes on.
const startLimit = 25 * time.Second

// startUplinks brings into being what was applied and a reboot has removed.
func (a *Agent) startUplinks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := a.o.Provisioner.Repair(ctx); err != nil {
		a.o.Log.Error("uplinks", "err", err)
	}
}

// linkChanged hears of every link that changed. It must not block.
func (a *Agent) linkChanged(ifindex int) {
	a.paths.wake.set(ifindex)
	a.wake.set(ifindex)
}

// specs is the uplinks in force: those of the accepted configuration, in which
// what was applied and confirmed stands for what is declared under its name,
// and what was applied and is declared no more.
func (a *Agent) specs() []uplink.Spec {
	applied, _, _ := a.o.Provisioner.Applied()
	byName := map[string]uplink.Spec{}
	for _, spec := range applied {
		byName[spec.Name] = spec
	}
	var list []uplink.Spec
	for _, spec := range a.config().Uplinks {
		if was, ok := byName[spec.Name]; ok && spec.Ours() {
			spec = was
		}
		delete(byName, spec.Name)
		list = append(list, spec)
	}
	for _, spec := range applied {
		if _, left := byName[spec.Name]; left {
			list = append(list, spec)
		}
	}
	return list
}

// neverApplied says that an uplink is only declared: nothing of it is there
// before it is applied.
func (a *Agent) neverApplied(spec uplink.Spec) bool {
	if spec.Kind == vmnetd.UplinkNIC || spec.Kind == vmnetd.UplinkExternal {
		return false
	}
	applied, _, _ := a.o.Provisioner.Applied()
	return !slices.ContainsFunc(applied, func(was uplink.Spec) bool { return was.Name == spec.Name })
}

// Plan implements API. What is wanted is read from the operator's files.
func (a *Agent) Plan(ctx context.Context, names []string) (vmnetd.Plan, error) {
	cfg, err := a.o.Config.Candidate()
	if err != nil {
		return vmnetd.Plan{}, err
	}
	p, err := a.o.Provisioner.Plan(ctx, cfg.Uplinks, names)
	p.From = a.o.Config.Name()
	return p, err
}

// Apply implements API.
func (a *Agent) Apply(ctx context.Context, _ Caller, o vmnetd.ApplyOptions) (vmnetd.Applied, error) {
	cfg, err := a.o.Config.Candidate()
	if err != nil {
		return vmnetd.Applied{}, err
	}
	type outcome struct {
		applied vmnetd.Applied
		err     error
	}
	done := make(chan outcome, 1)
	go func() { // half an apply helps nobody: it goes on when the caller has gone
		applied, err := a.o.Provisioner.Apply(context.WithoutCancel(ctx), cfg.Uplinks, o)
		a.appliedOrNot(applied, err)
		done <- outcome{applied, err}
	}()
	select {
	case out := <-done:
		return out.applied, out.err
	case <-ctx.Done():
		return vmnetd.Applied{}, vmnetd.Errorf(vmnetd.ErrBusy, "the apply is not finished and goes on").
			WithNext("vmnetd watch, and then  vmnetd uplink confirm")
	}
}

// appliedOrNot tells how an apply ended.
func (a *Agent) appliedOrNot(applied vmnetd.Applied, err error) {
	e := vmnetd.Event{Event: "applied", Text: "uplinks applied, to be confirmed until " + applied.Until.Format(time.TimeOnly)}
	switch {
	case err != nil:
		e = vmnetd.Event{Event: "apply-failed", Text: err.Error()}
	case !applied.Changed:
		return
	case applied.Until.IsZero():
		e.Text = "uplinks applied"
	}
	a.uplinksTouched(e)
}

// uplinksTouched tells of something done to the uplinks, and has them looked at.
func (a *Agent) uplinksTouched(e vmnetd.Event) {
	a.event(e)
	a.wake.set(anyUplink)
}

// done is how a verb on the uplinks ends: with an event when it succeeded.
func (a *Agent) done(err error, e vmnetd.Event) error {
	if err == nil {
		a.uplinksTouched(e)
	}
	return err
}

// Confirm implements API.
func (a *Agent) Confirm(ctx context.Context, _ Caller, id string) error {
	return a.done(a.o.Provisioner.Confirm(ctx, id), vmnetd.Event{Event: "confirmed", Text: "the uplinks stay as they were applied"})
}

// Rollback implements API.
func (a *Agent) Rollback(ctx context.Context, _ Caller, id string) error {
	return a.done(a.o.Provisioner.Rollback(ctx, id), vmnetd.Event{Event: "rolled-back", Text: "the uplinks are as they were before the apply"})
}

// Move implements API.
func (a *Agent) Move(ctx context.Context, _ Caller, anchor, to string) error {
	text := "chooses its path by itself again"
	if to != "" {
		text = "moved to " + to + " until it is moved again"
	}
	return a.done(a.o.Provisioner.Move(ctx, anchor, to), vmnetd.Event{Event: "moved", Uplink: anchor, Text: text})
}

// SetDrain implements API.
func (a *Agent) SetDrain(ctx context.Context, _ Caller, name, port string, on bool) error {
	e := vmnetd.Event{Event: "undrained", Uplink: name, Text: port + " may carry traffic again"}
	if on {
		e = vmnetd.Event{Event: "drained", Uplink: name, Text: port + " is kept off the active path"}
	}
	return a.done(a.o.Provisioner.SetDrain(ctx, name, port, on), e)
}

// SetHold implements API.
func (a *Agent) SetHold(ctx context.Context, _ Caller, name string, until time.Time) error {
	e := vmnetd.Event{Event: "released", Uplink: name, Text: "is converged again"}
	if !until.IsZero() {
		e = vmnetd.Event{Event: "held", Uplink: name, Text: "is not converged before " + until.Format(time.DateTime)}
	}
	return a.done(a.o.Provisioner.SetHold(ctx, name, until), e)
}

// Team implements API.
func (a *Agent) Team(ctx context.Context, _ Caller, team string, req vmnetd.TeamRequest) (string, error) {
	spec, err := a.known(team)
	if err != nil {
		return "", err
	}
	return a.o.Provisioner.Team(ctx, spec, req)
}

// Convert implements API.
func (a *Agent) Convert(ctx context.Context, _ Caller, name, to string, live bool) (vmnetd.Conversion, error) {
	return a.o.Provisioner.Convert(ctx, a.config().Uplinks, name, to, live)
}

func (a *Agent) known(name string) (uplink.Spec, error) {
	spec, ok := a.specOf(name)
	if !ok {
		return spec, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %s", name).WithNext("vmnetd uplink list")
	}
	return spec, nil
}
