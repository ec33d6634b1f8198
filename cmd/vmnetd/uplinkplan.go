package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) uplinkPlanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "plan [UPLINK…]",
		Short: "Show what apply would change, and what that costs",
		Long: `Shows what stands between what runs and what is declared, what that costs host
and guests, and what forbids it. Changes nothing. With names: these uplinks and
what they stand on. + is made, ~ changed, - removed, > moved.`,
		Example: `  vmnetd uplink plan
  vmnetd uplink plan team0 --json`,
		ValidArgsFunction: a.completion(a.uplinks),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.uplinkPlan(cmd.Context(), args)
		},
	}
}

func (a *app) uplinkPlan(ctx context.Context, names []string) error {
	return a.with(ctx, func(c client) error {
		p, err := c.Plan(ctx, names)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(wholePlan(p))
		}
		a.printPlan(p)
		a.printPlanEnd(p)
		return nil
	})
}

// wholePlan makes empty lists [] in JSON.
func wholePlan(p vmnetd.Plan) vmnetd.Plan {
	p.Changes = append([]vmnetd.PlanChange{}, p.Changes...)
	for i := range p.Changes {
		p.Changes[i].Detail = append([]string{}, p.Changes[i].Detail...)
	}
	p.Cost, p.Mind = append([]string{}, p.Cost...), append([]string{}, p.Mind...)
	p.Problems = append([]vmnetd.Check{}, p.Problems...)
	return p
}
