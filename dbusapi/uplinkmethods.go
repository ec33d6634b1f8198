package dbusapi

import (
	"context"
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
)

// uplinkMethods is the rows of the table that are about uplinks. What the
// Manager has as well saves a command the way to the uplink's object.
func uplinkMethods() map[string]map[string]method {
	return map[string]map[string]method{
		managerIface: {
			"Plan":     {in: "as", action: ActionRead, run: planAll},
			"Apply":    {in: "a{sv}", action: ActionManageUplinks, run: applyAll},
			"Confirm":  {in: "s", action: ActionManageUplinks, run: confirm},
			"Rollback": {in: "s", action: ActionManageUplinks, run: rollback},
			"Move":     {in: "ss", action: ActionManageUplinks, run: moveAnchor},
			"SetDrain": {in: "ssb", action: ActionManageUplinks, run: drainPort},
			"SetHold":  {in: "st", action: ActionManageUplinks, run: holdNamed},
			"Team":     {in: "sa{sv}", action: ActionRead, run: teamVerb},
			"Convert":  {in: "ssb", action: ActionRead, run: convert},
		},
		uplinkIface: {
			"Plan":     {action: ActionRead, run: planOne},
			"Apply":    {in: "a{sv}", action: ActionManageUplinks, run: applyOne},
			"Confirm":  {in: "s", action: ActionManageUplinks, run: confirm},
			"Rollback": {in: "s", action: ActionManageUplinks, run: rollback},
			"Move":     {in: "s", action: ActionManageUplinks, run: moveThis},
			"SetDrain": {in: "sb", action: ActionManageUplinks, run: drainThis},
			"SetHold":  {in: "t", action: ActionManageUplinks, run: holdThis},
		},
		teamIface: {
			"PortAdd":       {in: "s", action: ActionManageUplinks, run: teamDoes("port-add")},
			"PortRemove":    {in: "s", action: ActionManageUplinks, run: teamDoes("port-remove")},
			"PortConfig":    {in: "s", action: ActionRead, run: teamSays("port-config")},
			"SetPortConfig": {in: "ss", action: ActionManageUplinks, run: teamDoes("set-port-config")},
			"Get":           {in: "s", action: ActionRead, run: teamSays("get")},
			"Set":           {in: "ss", action: ActionManageUplinks, run: teamDoes("set")},
		},
	}
}

// merge adds rows to the table.
func merge(table, more map[string]map[string]method) map[string]map[string]method {
	for iface, members := range more {
		if table[iface] == nil {
			table[iface] = map[string]method{}
		}
		maps.Copy(table[iface], members)
	}
	return table
}

func planAll(ctx context.Context, c *call) ([]any, error) { return c.plan(ctx, arg[[]string](c, 0)) }

func planOne(ctx context.Context, c *call) ([]any, error) { return c.plan(ctx, []string{c.name}) }

func (c *call) plan(ctx context.Context, names []string) ([]any, error) {
	if err := checkNames(names); err != nil {
		return nil, err
	}
	p, err := c.s.api.Plan(ctx, names)
	return jsonAnswer(p, err)
}

func applyAll(ctx context.Context, c *call) ([]any, error) {
	o, err := decodeApply(arg[properties](c, 0))
	if err != nil {
		return nil, err
	}
	applied, err := c.s.api.Apply(ctx, c.who.Caller, o)
	return jsonAnswer(applied, err)
}

func applyOne(ctx context.Context, c *call) ([]any, error) {
	o, err := decodeApply(arg[properties](c, 0))
	if err != nil {
		return nil, err
	}
	o.Uplinks = []string{c.name}
	applied, err := c.s.api.Apply(ctx, c.who.Caller, o)
	if err != nil {
		return nil, err
	}
	return []any{clean(applied.ID)}, nil
}

func confirm(ctx context.Context, c *call) ([]any, error) {
	return nil, c.s.api.Confirm(ctx, c.who.Caller, c.text(0))
}

func rollback(ctx context.Context, c *call) ([]any, error) {
	return nil, c.s.api.Rollback(ctx, c.who.Caller, c.text(0))
}

func moveAnchor(ctx context.Context, c *call) ([]any, error) {
	return nil, c.s.api.Move(ctx, c.who.Caller, c.text(0), c.text(1))
}

func moveThis(ctx context.Context, c *call) ([]any, error) {
	return nil, c.s.api.Move(ctx, c.who.Caller, c.name, c.text(0))
}

// drainPort finds the uplink of the port when none is named.
func drainPort(ctx context.Context, c *call) ([]any, error) {
	uplink, port := c.text(0), c.text(1)
	if uplink == "" {
		var err error
		if uplink, err = portOf(c.s.api.Uplinks(), port); err != nil {
			return nil, err
		}
	}
	return nil, c.s.api.SetDrain(ctx, c.who.Caller, uplink, port, arg[bool](c, 2))
}

// portOf names the uplink that has the port.
func portOf(uplinks []vmnetd.UplinkState, port string) (string, error) {
	for _, u := range uplinks {
		switch u.Kind {
		case vmnetd.UplinkBond, vmnetd.UplinkTeam, vmnetd.UplinkAnchor:
			if slices.Contains(u.Ports, port) || slices.Contains(u.Drained, port) {
				return u.Name, nil
			}
		}
	}
	return "", vmnetd.Errorf(vmnetd.ErrNotFound, "%q is no port of a bond, team or anchor of ours", clip(port)).WithNext("vmnetd uplink list")
}

func drainThis(ctx context.Context, c *call) ([]any, error) {
	return nil, c.s.api.SetDrain(ctx, c.who.Caller, c.name, c.text(0), arg[bool](c, 1))
}

func holdNamed(ctx context.Context, c *call) ([]any, error) {
	return nil, c.s.api.SetHold(ctx, c.who.Caller, c.text(0), untilMicro(arg[uint64](c, 1)))
}

func holdThis(ctx context.Context, c *call) ([]any, error) {
	return nil, c.s.api.SetHold(ctx, c.who.Caller, c.name, untilMicro(arg[uint64](c, 0)))
}

// teamReads are the operations of vmnetd.TeamRequest that change nothing.
var teamReads = []string{"config", "config-actual", "state", "get", "port-present", "port-config"}

// teamVerb is any of them. Whoever may read may not change.
func teamVerb(ctx context.Context, c *call) ([]any, error) {
	req, err := decodeTeam(c.options())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(teamReads, req.Op) {
		if err := c.s.o.Authorizer.Authorize(ctx, c.who, ActionManageUplinks); err != nil {
			return nil, err
		}
	}
	answer, err := c.s.api.Team(ctx, c.who.Caller, c.text(0), req)
	return []any{clean(answer)}, err
}

// teamDoes is a verb that changes a team, with no answer.
func teamDoes(op string) func(context.Context, *call) ([]any, error) {
	return func(ctx context.Context, c *call) ([]any, error) {
		_, err := c.team(ctx, op)
		return nil, err
	}
}

// teamSays is a verb that asks a team.
func teamSays(op string) func(context.Context, *call) ([]any, error) {
	return func(ctx context.Context, c *call) ([]any, error) {
		answer, err := c.team(ctx, op)
		return []any{clean(answer)}, err
	}
}

// team asks for a verb on the team that the object is. Whoever calls these
// methods knows that the configuration is not changed.
func (c *call) team(ctx context.Context, op string) (string, error) {
	req := vmnetd.TeamRequest{Op: op, Temporary: true}
	switch op {
	case "get":
		req.Item = c.text(0)
	case "set":
		req.Item, req.Value = c.text(0), c.text(1)
	default:
		req.Port = c.text(0)
		if len(c.body) > 1 {
			req.Value = c.text(1)
		}
	}
	if err := checkTeam(req); err != nil {
		return "", err
	}
	return c.s.api.Team(ctx, c.who.Caller, c.name, req)
}

func convert(ctx context.Context, c *call) ([]any, error) {
	live := arg[bool](c, 2)
	if live {
		if err := c.s.o.Authorizer.Authorize(ctx, c.who, ActionManageUplinks); err != nil {
			return nil, err
		}
	}
	conversion, err := c.s.api.Convert(ctx, c.who.Caller, c.text(0), c.text(1), live)
	return jsonAnswer(conversion, err)
}
