package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) uplinkHoldCommand() *cobra.Command {
	var length string
	cmd := &cobra.Command{
		Use:   "hold UPLINK --for TIME",
		Short: "Repair nothing on an uplink for a time",
		Long: `Keeps vmnetd from repairing an uplink for a time, also after a restart: for work
that looks like damage. Guests stay as they are and are still announced.`,
		Example:           `  vmnetd uplink hold team0 --for 1h`,
		Args:              takes([]string{"the name of an uplink"}),
		ValidArgsFunction: a.completeFirst(a.uplinks),
		RunE: func(cmd *cobra.Command, args []string) error {
			if length == "" {
				return usage(cmd, "%s needs --for TIME", cmd.CommandPath())
			}
			span, err := parseSpan("--for", length)
			if err != nil {
				return err
			}
			return a.uplinkHold(cmd.Context(), args[0], a.now().Add(span))
		},
	}
	cmd.Flags().StringVar(&length, "for", "", "how long: `TIME` as in 30m, 1h, 2d")
	return cmd
}

func (a *app) uplinkReleaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "release UPLINK",
		Short:             "End a hold",
		Example:           `  vmnetd uplink release team0`,
		Args:              takes([]string{"the name of an uplink"}),
		ValidArgsFunction: a.completeFirst(a.uplinks),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.uplinkHold(cmd.Context(), args[0], time.Time{})
		},
	}
}

func (a *app) uplinkHold(ctx context.Context, name string, until time.Time) error {
	return a.with(ctx, func(c client) error {
		if err := c.SetHold(ctx, name, until); err != nil {
			return err
		}
		answer := map[string]any{"uplink": name, "held_until": until}
		if until.IsZero() {
			return a.done(answer, "%s is looked after again", name)
		}
		return a.done(answer, "%s is held until %s; to end that:  vmnetd uplink release %s", name, a.clock(until), name)
	})
}
