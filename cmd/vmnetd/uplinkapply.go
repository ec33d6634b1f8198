package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) uplinkApplyCommand() *cobra.Command {
	var o vmnetd.ApplyOptions
	cmd := &cobra.Command{
		Use:   "apply [UPLINK…]",
		Short: "Make the uplinks what is declared, and undo it unless confirmed",
		Long: `Makes the uplinks what is declared: all of them, or those named and what they
stand on. What was done is undone after 60 s unless it is confirmed: a host that
has cut itself off comes back, also when the daemon has died or the host was
rebooted meanwhile. On a terminal ENTER confirms; elsewhere "uplink confirm".`,
		Example: `  vmnetd uplink apply
  vmnetd uplink apply team0 --confirm-within 5m
  vmnetd uplink apply --no-confirm --json`,
		ValidArgsFunction: a.completion(a.uplinks),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Uplinks = args
			if o.NoConfirm && cmd.Flags().Changed("confirm-within") {
				return usage(cmd, "--confirm-within and --no-confirm exclude each other")
			}
			if cmd.Flags().Changed("confirm-within") && o.ConfirmWithin < time.Second {
				return usage(cmd, "--confirm-within %s is too short, nobody types as fast", o.ConfirmWithin)
			}
			return a.uplinkApply(cmd.Context(), o)
		},
	}
	cmd.Flags().DurationVar(&o.ConfirmWithin, "confirm-within", 0, "undo it after `TIME` unless confirmed: 90s, 5m (60s)")
	cmd.Flags().BoolVar(&o.NoConfirm, "no-confirm", false, "it stays, nobody has to confirm")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also when the next boot would cut this host off")
	return cmd
}

func (a *app) uplinkApply(ctx context.Context, o vmnetd.ApplyOptions) error {
	return a.with(ctx, func(c client) error {
		if a.io.width > 0 && !a.json {
			if err := a.planBefore(ctx, c, o); err != nil {
				return err
			}
		}
		a.asked, a.seeBy = "the apply", "vmnetd status"
		applied, err := c.Apply(ctx, o)
		if err != nil {
			return err
		}
		a.asked = ""
		if a.json {
			applied.Done = append([]string{}, applied.Done...)
			return a.printJSON(applied)
		}
		return a.applied(ctx, c, applied)
	})
}

// planBefore shows what is about to be done, and stops where it would be refused.
func (a *app) planBefore(ctx context.Context, c client, o vmnetd.ApplyOptions) error {
	p, err := c.Plan(ctx, o.Uplinks)
	if err != nil {
		return err
	}
	if p.Empty() && len(p.Problems) == 0 {
		return nil // apply says so
	}
	a.printPlan(p)
	a.printf("\n")
	if len(p.Problems) > 0 && !o.Force {
		n := len(p.Problems)
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s, nothing changed", plural(n, "problem")).
			WithNext("when " + itIs(n) + " solved:  vmnetd uplink apply")
	}
	return nil
}

// applied tells what was done, and how it is kept.
func (a *app) applied(ctx context.Context, c client, applied vmnetd.Applied) error {
	if !applied.Changed {
		a.printf("%s\n", nothingToDo)
		return nil
	}
	for _, line := range applied.Done {
		a.printHanging("  ", "    ", vmnetd.Printable(line))
	}
	switch {
	case applied.Until.IsZero():
		a.printf("applied, and it stays\n")
		return nil
	case a.io.answers && a.io.width > 0:
		err := a.countdown(ctx, c, applied)
		if !errors.Is(err, errNobodyAnswers) {
			return err
		}
	}
	a.printf("applied; it is undone at %s unless you type  vmnetd uplink confirm\n", a.clock(applied.Until))
	return nil
}
