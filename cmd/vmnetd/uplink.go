package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) uplinkCommand() *cobra.Command {
	return group("uplink", "Plan, apply and watch the devices that reach the outside",
		`An uplink is a device that reaches the outside: a NIC, a bond, a team, a VLAN or
a bridge, or an anchor that stays while what is under it is replaced. They are
declared in vmnetd.yaml; nothing is made or changed before "uplink apply".`,
		a.uplinkListCommand(), a.uplinkShowCommand(), a.uplinkPlanCommand(), a.uplinkApplyCommand(),
		a.uplinkConfirmCommand(), a.uplinkRollbackCommand(), a.uplinkMoveCommand(), a.uplinkDrainCommand(true),
		a.uplinkDrainCommand(false), a.uplinkHoldCommand(), a.uplinkReleaseCommand(),
	)
}

// uplinkNamed asks for all uplinks and picks one.
func uplinkNamed(ctx context.Context, c client, name string) (vmnetd.UplinkState, error) {
	all, err := c.Uplinks(ctx)
	if err != nil {
		return vmnetd.UplinkState{}, err
	}
	var names []string
	for _, u := range all {
		if u.Name == name {
			return u, nil
		}
		names = append(names, u.Name)
	}
	err = vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %q", name).WithNext("vmnetd uplink list")
	if near := nearest(names, name, anyWord); near != "" {
		return vmnetd.UplinkState{}, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %q: did you mean %s?", name, near).WithNext("vmnetd uplink list")
	}
	return vmnetd.UplinkState{}, err
}

// done says that a verb was carried out: a sentence, or an object for programs.
func (a *app) done(answer map[string]any, format string, args ...any) error {
	if a.json {
		return a.printJSON(answer)
	}
	a.printf(format+"\n", printables(args)...)
	return nil
}

func printables(args []any) []any {
	for i, arg := range args {
		if s, ok := arg.(string); ok {
			args[i] = vmnetd.Printable(s)
		}
	}
	return args
}
