package main

import (
	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) teamConfigCommand() *cobra.Command {
	var actual bool
	cmd := &cobra.Command{
		Use:   "config TEAM",
		Short: "Show a team's configuration, as teamd's JSON",
		Example: `  vmnetd team config team0
  vmnetd team config team0 --actual`,
		Args:              takes([]string{"the name of a team"}),
		ValidArgsFunction: a.completeFirst(a.teams),
		RunE: func(cmd *cobra.Command, args []string) error {
			op := "config"
			if actual {
				op = "config-actual"
			}
			answer, err := a.askTeam(cmd.Context(), args[0], vmnetd.TeamRequest{Op: op})
			if err != nil {
				return err
			}
			return a.printAnswer(answer)
		},
	}
	cmd.Flags().BoolVar(&actual, "actual", false, "as it is now, with what was changed since")
	return cmd
}

func (a *app) teamGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get TEAM ITEM",
		Short: "Show one item of a team's state",
		Long:  `Shows one item of a team's state, by its path as teamdctl(8) has it.`,
		Example: `  vmnetd team get team0 runner.active_port
  vmnetd team get team0 setup.runner_name`,
		Args:              takes([]string{"the name of a team", "the path of an item"}),
		ValidArgsFunction: a.completeFirst(a.teams),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := a.askTeam(cmd.Context(), args[0], vmnetd.TeamRequest{Op: "get", Item: args[1]})
			if err != nil {
				return err
			}
			return a.printAnswer(answer)
		},
	}
}

func (a *app) teamSetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "set TEAM ITEM VALUE --temporary",
		Short:             "Change one item of a team's state",
		Example:           `  vmnetd team set team0 runner.active_port eno2 --temporary`,
		Args:              takes([]string{"the name of a team", "the path of an item", "a value"}),
		ValidArgsFunction: a.completeFirst(a.teams),
	}
	temporary := addTemporary(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := onlyTemporary(cmd, *temporary); err != nil {
			return err
		}
		req := vmnetd.TeamRequest{Op: "set", Item: args[1], Value: args[2], Temporary: true}
		return a.changeTeam(cmd.Context(), args[0], req, "%s of %s is %s", args[1], args[0], args[2])
	}
	return cmd
}
