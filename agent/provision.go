package agent

import (
	"context"
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
	return a.o.Provisioner.Apply(ctx, cfg.Uplinks, o)
}

// Confirm implements API.
func (a *Agent) Confirm(ctx context.Context, _ Caller, id string) error {
	return a.o.Provisioner.Confirm(ctx, id)
}

// Rollback implements API.
func (a *Agent) Rollback(ctx context.Context, _ Caller, id string) error {
	return a.o.Provisioner.Rollback(ctx, id)
}

// Move implements API.
func (a *Agent) Move(ctx context.Context, _ Caller, anchor, to string) error {
	return a.o.Provisioner.Move(ctx, anchor, to)
}

// SetDrain implements API.
func (a *Agent) SetDrain(ctx context.Context, _ Caller, name, port string, on bool) error {
	return a.o.Provisioner.SetDrain(ctx, name, port, on)
}

// SetHold implements API.
func (a *Agent) SetHold(ctx context.Context, _ Caller, name string, until time.Time) error {
	return a.o.Provisioner.SetHold(ctx, name, until)
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
