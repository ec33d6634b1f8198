package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) uplinkRollbackCommand() *cobra.Command {
	var g guardOptions
	cmd := &cobra.Command{
		Use:   "rollback [ID]",
		Short: "Undo what uplink apply has done, while it waits to be confirmed",
		Long: `Puts the uplinks back to what they were before "uplink apply", as long as that
waits to be confirmed. Afterwards, write what is wanted and apply again.`,
		Example:           `  vmnetd uplink rollback`,
		Args:              takes(nil, "ID"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if g.at != "" {
				return a.guard(cmd.Context(), g)
			}
			return a.uplinkRollback(cmd.Context(), first(args))
		},
	}
	g.flags(cmd.Flags())
	return cmd
}

func (a *app) uplinkRollback(ctx context.Context, id string) error {
	return a.with(ctx, func(c client) error {
		a.asked, a.seeBy = "the rollback", "vmnetd status"
		if err := c.Rollback(ctx, id); err != nil {
			return err
		}
		return a.done(map[string]any{"rolled_back": true}, "undone: the uplinks are what they were before the apply")
	})
}
