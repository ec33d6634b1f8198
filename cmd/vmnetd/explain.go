package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

func (a *app) explainCommand() *cobra.Command {
	var (
		req  vmnetd.Request
		all  bool
		file string
	)
	cmd := &cobra.Command{
		Use:   "explain VM",
		Short: "Say which network, uplink and mode a VM would get, and why",
		Long: `Says what attach would do: the rule, network, uplink and mode chosen, every
alternative that was not and why, and what to mind. Nothing is changed.
The exit code is the one attach would have: 3 denied, 5 nothing fits now.
With --file neither a daemon nor the VM is needed, and nothing is known of the
host: uplinks count as present and free.`,
		Example: `  vmnetd explain vm1
  vmnetd explain vm1 --network lan --mode passthru
  vmnetd explain vm1 --all
  vmnetd explain vm1 --file ./vmnetd.yaml`,
		Args:              takes([]string{"the name of a VM"}),
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setAsked(&req, args[0]); err != nil {
				return err
			}
			if cmd.Flags().Changed("file") {
				return a.explainFile(file, req, all)
			}
			return a.explain(cmd.Context(), req, all)
		},
	}
	addRequestFlags(cmd.Flags(), &req)
	addScopeFlags(cmd.Flags(), &req.Live, &req.Config)
	addIncomingFlag(cmd.Flags(), &req)
	cmd.Flags().BoolVar(&all, "all", false, "every network open to the VM")
	cmd.Flags().StringVar(&file, "file", "", "configuration `FILE` to ask instead of the daemon")
	a.completeRequestFlags(cmd)
	return cmd
}

func (a *app) explain(ctx context.Context, req vmnetd.Request, all bool) error {
	return a.with(ctx, func(c client) error {
		got, err := c.Explain(ctx, req, all)
		if err != nil {
			return err
		}
		return a.printExplained(got, all)
	})
}

func (a *app) explainFile(file string, req vmnetd.Request, all bool) error {
	cfg, err := checkFile(file)
	if err != nil {
		return a.badConfig(err)
	}
	facts := policy.Facts{Unknown: true, VM: policy.VM{Name: req.VM, NIC: req.ID}}
	if all {
		every := func(string) policy.Facts { return facts }
		return a.printExplained(cfg.Policy.ExplainAll(req, every), all)
	}
	return a.printExplained([]policy.Explanation{cfg.Policy.Explain(req, facts)}, all)
}

// printExplained prints what the policy says; the exit code follows the
// decision, or with --all the best of them.
func (a *app) printExplained(got []policy.Explanation, all bool) error {
	if err := a.writeExplained(got, all); err != nil {
		return err
	}
	code := vmnetd.ExitOK
	for i, e := range got {
		if e.Granted {
			return nil
		}
		if i == 0 {
			code = e.ExitCode
		}
	}
	if code == vmnetd.ExitOK {
		return nil
	}
	return &exitError{code: code} // the reason stands in what was printed
}

func (a *app) writeExplained(got []policy.Explanation, all bool) error {
	switch {
	case a.json && !all && len(got) == 1:
		return a.printJSON(got[0])
	case a.json && got == nil:
		return a.printJSON([]policy.Explanation{})
	case a.json:
		return a.printJSON(got)
	}
	return policy.WriteText(a.io.out, got, policy.TextOptions{Width: a.io.width})
}

// attachDry is explain in attach's clothes: a refusal is an error here.
func (a *app) attachDry(ctx context.Context, req vmnetd.Request) error {
	return a.with(ctx, func(c client) error {
		got, err := c.Explain(ctx, req, false)
		if err != nil {
			return err
		}
		if err := a.writeExplained(got, false); err != nil {
			return err
		}
		for _, e := range got {
			if !e.Granted {
				return refusal(e)
			}
		}
		if !a.json {
			a.printf("\ndry run: nothing was changed\n")
		}
		return nil
	})
}

// refusal is the error that attach would have ended with.
func refusal(e policy.Explanation) error {
	err := vmnetd.Errorf(classOfExit(e.ExitCode), "%s", e.Error).WithNext(e.Next)
	return &exitError{code: e.ExitCode, err: err}
}

func classOfExit(code int) error {
	for _, c := range vmnetd.Classes {
		if c.Exit == code {
			return c.Err
		}
	}
	return vmnetd.ErrFailed
}
