package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

// uplinkDrainCommand is drain, or undrain.
func (a *app) uplinkDrainCommand(on bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain PORT",
		Short: "Move traffic off a port and keep it off",
		Long: `Moves the active path off a port of a bond or team and keeps it off, also after
a restart, until "uplink undrain": for work on its cable or switch.`,
		Example: `  vmnetd uplink drain eno1`,
	}
	if !on {
		cmd = &cobra.Command{
			Use:     "undrain PORT",
			Short:   "Let a drained port carry traffic again",
			Example: `  vmnetd uplink undrain eno1`,
		}
	}
	var of string
	cmd.Flags().StringVar(&of, "uplink", "", "the `UPLINK` that has the port, where it is not clear")
	a.completeFlag(cmd, "uplink", a.uplinks)
	cmd.Args = takes([]string{"the name of a port"})
	cmd.ValidArgsFunction = a.completeFirst(ports(on))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.uplinkDrain(cmd.Context(), of, args[0], on)
	}
	return cmd
}

func (a *app) uplinkDrain(ctx context.Context, of, port string, on bool) error {
	return a.with(ctx, func(c client) error {
		if err := c.SetDrain(ctx, of, port, on); err != nil {
			return err
		}
		answer := map[string]any{"port": port, "drained": on}
		if on {
			return a.done(answer, "%s is kept off the active path; to end that:  vmnetd uplink undrain %s", port, port)
		}
		return a.done(answer, "%s may carry traffic again", port)
	})
}

// ports are those that can be drained, or that are.
func ports(on bool) names {
	return func(ctx context.Context, c client, _ string) ([]string, error) {
		all, err := c.Uplinks(ctx)
		var words []string
		for _, u := range all {
			switch {
			case !on:
				words = append(words, u.Drained...)
			case u.Kind == vmnetd.UplinkBond || u.Kind == vmnetd.UplinkTeam:
				words = append(words, u.Ports...)
			}
		}
		return words, err
	}
}
