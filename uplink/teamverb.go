package uplink

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// teamVerbs is what  vmnetd team  does with a team's teamd, by the Op of a
// TeamRequest. The answer is teamd's own JSON or value.
var teamVerbs = map[string]func(ctx context.Context, t *teaming.Teams, team string, r vmnetd.TeamRequest) (string, error){
	"config": func(ctx context.Context, t *teaming.Teams, team string, _ vmnetd.TeamRequest) (string, error) {
		return t.ConfigText(ctx, team, false)
	},
	"config-actual": func(ctx context.Context, t *teaming.Teams, team string, _ vmnetd.TeamRequest) (string, error) {
		return t.ConfigText(ctx, team, true)
	},
	"state": func(ctx context.Context, t *teaming.Teams, team string, _ vmnetd.TeamRequest) (string, error) {
		return t.StateText(ctx, team)
	},
	"get": func(ctx context.Context, t *teaming.Teams, team string, r vmnetd.TeamRequest) (string, error) {
		return t.Get(ctx, team, r.Item)
	},
	"set": func(ctx context.Context, t *teaming.Teams, team string, r vmnetd.TeamRequest) (string, error) {
		return "", t.Set(ctx, team, r.Item, r.Value)
	},
	"port-config": func(ctx context.Context, t *teaming.Teams, team string, r vmnetd.TeamRequest) (string, error) {
		return t.PortConfig(ctx, team, r.Port)
	},
	"set-port-config": func(ctx context.Context, t *teaming.Teams, team string, r vmnetd.TeamRequest) (string, error) {
		return "", t.SetPortConfig(ctx, team, r.Port, r.Value)
	},
	"port-add": func(ctx context.Context, t *teaming.Teams, team string, r vmnetd.TeamRequest) (string, error) {
		return "", t.PortAdd(ctx, team, teaming.Port{Name: r.Port})
	},
	"port-remove": func(ctx context.Context, t *teaming.Teams, team string, r vmnetd.TeamRequest) (string, error) {
		return "", t.PortRemove(ctx, team, r.Port)
	},
}

// teamChanges are the verbs that change a team.
var teamChanges = []string{"set", "set-port-config", "port-add", "port-remove"}

// Team asks or changes the teamd of an uplink. What is changed by hand is drift:
// the next apply puts it right.
func (m *Manager) Team(ctx context.Context, spec Spec, r vmnetd.TeamRequest) (string, error) {
	s, err := m.o.Finder.device(ctx, spec)
	if err != nil {
		return "", err
	}
	name := s.Link.Name
	switch {
	case !s.Present:
		return "", vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device of %s", spec.Name).WithNext("vmnetd uplink plan " + spec.Name)
	case s.Link.Kind != kindTeam:
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "%s is no team", spec.Name).WithNext("vmnetd team list")
	case r.Op == "port-present":
		return strconv.FormatBool(slices.ContainsFunc(m.portsOf(s.Link.Index), func(l rtnl.Link) bool { return l.Name == r.Port })), nil
	}
	do, known := teamVerbs[r.Op]
	if !known {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "a team has no verb %q", r.Op)
	}
	if !slices.Contains(teamChanges, r.Op) {
		text, err := do(ctx, m.o.Teams, name, r)
		return text, ofTeam(name, err)
	}
	switch {
	case !spec.Ours():
		return "", vmnetd.Errorf(vmnetd.ErrDenied, "%s is external: vmnetd watches it and changes nothing", spec.Name).WithNext("teamdctl " + name)
	case !r.Temporary:
		return "", vmnetd.Errorf(vmnetd.ErrDenied, "%s is declared, and what is changed by hand goes at the next apply", spec.Name).WithNext("add --temporary, or change the configuration")
	}
	return "", m.exclusive(ctx, func(ctx context.Context) error { return m.changeTeam(ctx, spec.Name, name, r) })
}

// ofTeam says whose teamd an error is of.
func ofTeam(name string, err error) error {
	if err == nil {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ClassOf(err).Err, "%s: %w", name, err).WithNext(cmp.Or(vmnetd.NextOf(err), "vmnetd uplink show "+name))
}

// changeTeam carries a change out, and keeps which ports came or went by hand:
// a repair must not put them back.
func (m *Manager) changeTeam(ctx context.Context, uplink, device string, r vmnetd.TeamRequest) error {
	if r.Op == "port-add" {
		if err := m.free(ctx, r.Port); err != nil {
			return err
		}
	}
	if _, err := teamVerbs[r.Op](ctx, m.o.Teams, device, r); err != nil {
		return ofTeam(device, err)
	}
	switch r.Op {
	case "port-add":
		return m.change(func(o overrides) { o.tried(uplink, r.Port, true) })
	case "port-remove":
		return m.change(func(o overrides) { o.tried(uplink, r.Port, false) })
	}
	return nil
}

// free sets a device down that is to become a port, which the kernel wants; one
// that the host or somebody else uses is refused.
func (m *Manager) free(ctx context.Context, port string) error {
	w, err := m.kernel.look(ctx, port)
	if err != nil {
		return err
	}
	d, ok := w[port]
	busy := ""
	switch {
	case !ok:
		return vmnetd.Errorf(vmnetd.ErrNotFound, "this host has no device %s", vmnetd.Printable(port)).WithNext("ip -br link")
	case d.Master != "":
		busy = "is a port of " + d.Master
	case len(d.Users) > 0:
		busy = d.Users[0].Name + " stands on it"
	case len(d.Addrs) > 0:
		busy = "has the address " + d.Addrs[0].Prefix.String() + ", which it would lose"
	}
	if busy != "" {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s %s", port, busy).WithNext("ip link show " + port)
	}
	if !d.Up {
		return nil
	}
	return m.o.Conn.SetUp(ctx, d.Index, false)
}
