package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) teamPortPresentCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "port-present TEAM PORT",
		Short:             "Say whether a team has a port; exit 4 when not",
		Example:           `  vmnetd team port-present team0 eno1`,
		Args:              takes([]string{"the name of a team", "the name of a port"}),
		ValidArgsFunction: a.completeTeamPort,
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := a.askTeam(cmd.Context(), args[0], vmnetd.TeamRequest{Op: "port-present", Port: args[1]})
			if err != nil {
				return err
			}
			if !slices.Contains([]string{"true", "yes", "1"}, strings.TrimSpace(answer)) {
				return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is no port of %s", args[1], args[0]).WithNext("vmnetd team state " + args[0])
			}
			return a.done(map[string]any{"port": args[1], "present": true}, "%s is a port of %s", args[1], args[0])
		},
	}
}

func (a *app) teamPortConfigCommand() *cobra.Command {
	var set string
	cmd := &cobra.Command{
		Use:   "port-config TEAM PORT",
		Short: "Show the configuration of a team's port",
		Example: `  vmnetd team port-config team0 eno1
  vmnetd team port-config team0 eno1 --set '{"prio": 50}' --temporary`,
		Args:              takes([]string{"the name of a team", "the name of a port"}),
		ValidArgsFunction: a.completeTeamPort,
	}
	cmd.Flags().StringVar(&set, "set", "", "give the port another configuration, as teamd's `JSON`")
	temporary := addTemporary(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if set == "" {
			answer, err := a.askTeam(cmd.Context(), args[0], vmnetd.TeamRequest{Op: "port-config", Port: args[1]})
			if err != nil {
				return err
			}
			return a.printAnswer(answer)
		}
		if err := onlyTemporary(cmd, *temporary); err != nil {
			return err
		}
		req := vmnetd.TeamRequest{Op: "set-port-config", Port: args[1], Value: set, Temporary: true}
		return a.changeTeam(cmd.Context(), args[0], req, "%s of %s has that configuration", args[1], args[0])
	}
	return cmd
}

func (a *app) teamPortAddCommand() *cobra.Command {
	return a.teamPortVerb("port-add", "Make a device a port of a team", "%s is a port of %s")
}

func (a *app) teamPortRemoveCommand() *cobra.Command {
	return a.teamPortVerb("port-remove", "Take a port out of a team", "%s is no longer a port of %s")
}

func (a *app) teamPortVerb(op, short, sentence string) *cobra.Command {
	cmd := &cobra.Command{
		Use:               op + " TEAM PORT --temporary",
		Short:             short,
		Example:           "  vmnetd team " + op + " team0 eno2 --temporary",
		Args:              takes([]string{"the name of a team", "the name of a device"}),
		ValidArgsFunction: a.completeTeamPort,
	}
	temporary := addTemporary(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := onlyTemporary(cmd, *temporary); err != nil {
			return err
		}
		req := vmnetd.TeamRequest{Op: op, Port: args[1], Temporary: true}
		return a.changeTeam(cmd.Context(), args[0], req, sentence, args[1], args[0])
	}
	return cmd
}

// changeTeam changes a team and says how it is put right.
func (a *app) changeTeam(ctx context.Context, team string, req vmnetd.TeamRequest, sentence string, args ...any) error {
	if _, err := a.askTeam(ctx, team, req); err != nil {
		return err
	}
	answer := map[string]any{"team": team, "op": req.Op, "temporary": true}
	return a.done(answer, sentence+" until  vmnetd uplink apply "+vmnetd.Printable(team), args...)
}
