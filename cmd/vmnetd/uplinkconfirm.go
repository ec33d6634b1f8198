package main

import (
	"github.com/spf13/cobra"
)

func (a *app) uplinkConfirmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm [ID]",
		Short: "Keep what uplink apply has done",
		Long: `Keeps what "uplink apply" has done. Without ID, as --json of apply prints it, it
is the one that waits to be confirmed.`,
		Example:           `  vmnetd uplink confirm`,
		Args:              takes(nil, "ID"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c client) error {
				if err := c.Confirm(cmd.Context(), first(args)); err != nil {
					return err
				}
				return a.done(map[string]any{"confirmed": true}, "confirmed: it stays")
			})
		},
	}
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
