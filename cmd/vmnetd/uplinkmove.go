package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) uplinkMoveCommand() *cobra.Command {
	var to string
	var auto bool
	cmd := &cobra.Command{
		Use:   "move ANCHOR --to UPLINK | --auto",
		Short: "Put an anchor and its guests on another of its members",
		Long: `Puts an anchor, with all guests on it, on another of its members and keeps it
there, also after a reboot, until it is moved again; --auto lets it choose by
itself again: the first member that has carrier.`,
		Example: `  vmnetd uplink move wan --to bond0
  vmnetd uplink move wan --auto`,
		Args:              takes([]string{"the name of an anchor"}),
		ValidArgsFunction: a.completeFirst(a.anchors),
		RunE: func(cmd *cobra.Command, args []string) error {
			if auto == (to != "") {
				return usage(cmd, "give either --to UPLINK or --auto")
			}
			return a.uplinkMove(cmd.Context(), args[0], to)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the member, an `UPLINK`")
	cmd.Flags().BoolVar(&auto, "auto", false, "the anchor chooses by itself again")
	a.completeFlag(cmd, "to", a.members)
	return cmd
}

func (a *app) uplinkMove(ctx context.Context, anchor, to string) error {
	return a.with(ctx, func(c client) error {
		if err := c.Move(ctx, anchor, to); err != nil {
			return err
		}
		answer := map[string]any{"uplink": anchor, "pinned": to}
		if to == "" {
			return a.done(answer, "%s chooses by itself again", anchor)
		}
		return a.done(answer, "%s is on %s until it is moved again; to end that:  vmnetd uplink move %s --auto", anchor, to, anchor)
	})
}

func (a *app) anchors(ctx context.Context, c client, _ string) ([]string, error) {
	all, err := c.Uplinks(ctx)
	return namesOf(all, func(u vmnetd.UplinkState) bool { return u.Kind == vmnetd.UplinkAnchor }), err
}

// members are what the anchor that was typed can be moved to.
func (a *app) members(ctx context.Context, c client, anchor string) ([]string, error) {
	u, err := uplinkNamed(ctx, c, anchor)
	return u.Ports, err
}
