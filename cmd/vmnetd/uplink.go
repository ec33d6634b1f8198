package main

import (
	"context"
	"errors"

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

// uplinkNamed asks for one uplink, and where there is none for names like it.
func uplinkNamed(ctx context.Context, c client, name string) (vmnetd.UplinkState, error) {
	u, err := c.Uplink(ctx, name)
	if !errors.Is(err, vmnetd.ErrNotFound) {
		return u, err
	}
	all, listErr := c.Uplinks(ctx)
	if listErr != nil {
		return u, err
	}
	var names []string
	for _, u := range all {
		names = append(names, u.Name)
	}
	if near := nearest(names, name, anyWord); near != "" {
		return u, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %q: did you mean %s?", name, near).WithNext("vmnetd uplink list")
	}
	return u, err
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
