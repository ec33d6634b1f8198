package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

func (a *app) detachCommand() *cobra.Command {
	var (
		sel agent.Selector
		req vmnetd.Request // takes --id and --mac as attach does
	)
	cmd := &cobra.Command{
		Use:   "detach VM [--id ID | --mac MAC | --all]",
		Short: "Take a NIC from a VM",
		Long: `Takes a NIC from a VM. Its traffic ends at once; a guest that has not let go of
the card yet leaves it in phase detaching, and the daemon finishes it.
With several NICs one must be named, or --all given; otherwise nothing is done.`,
		Example: `  vmnetd detach vm1
  vmnetd detach vm1 --id net1
  vmnetd detach vm1 --id net1 --live --config
  vmnetd detach vm1 --all`,
		Args:              takes([]string{"the name of a VM"}),
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setVM(&req, args[0]); err != nil {
				return err
			}
			sel.ID, sel.MAC = req.ID, req.MAC
			if err := oneSelector(cmd, sel); err != nil {
				return err
			}
			return a.detach(cmd.Context(), req.VM, sel)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.Var(&requestValue{flag: requestFlag{name: "id", value: "ID", set: setID}, req: &req}, "id", "name of the NIC")
	fs.Var(&requestValue{flag: requestFlag{name: "mac", value: "MAC", set: setMAC}, req: &req}, "mac", "MAC of the NIC")
	fs.BoolVar(&sel.All, "all", false, "every NIC of the VM")
	addScopeFlags(fs, &sel.Live, &sel.Config)
	a.completeFlag(cmd, "id", a.ids)
	return cmd
}

func oneSelector(cmd *cobra.Command, sel agent.Selector) error {
	n := 0
	for _, given := range []bool{sel.ID != "", sel.MAC != "", sel.All} {
		if given {
			n++
		}
	}
	if n > 1 {
		return usage(cmd, "give only one of --id, --mac and --all")
	}
	return nil
}

func (a *app) detach(ctx context.Context, vm string, sel agent.Selector) error {
	return a.with(ctx, func(c client) error {
		a.asked = "the detach"
		got, err := c.Detach(ctx, vm, sel)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(allListed(got))
		}
		return a.printDetached(got, sel)
	})
}

// printDetached tells what is gone from what is not: a call that took too long
// is answered with every NIC of the VM as it is then.
func (a *app) printDetached(got []vmnetd.Attachment, sel agent.Selector) error {
	var late []string
	for _, one := range got {
		switch {
		case sel.ID != "" && one.ID != sel.ID, sel.MAC != "" && one.MAC != sel.MAC:
			continue
		case one.Phase != vmnetd.Detaching && sel.Config && !sel.Live:
			a.printf("%s\n", vmnetd.Printable(one.FullName()+": no longer kept for the VM's next start; the running VM has it until it ends"))
			continue
		case one.Phase != vmnetd.Detaching:
			late = append(late, one.FullName())
			continue
		}
		a.printf("%s\n", vmnetd.Printable(detachedSentence(one)))
	}
	if len(late) > 0 {
		return vmnetd.Errorf(vmnetd.ErrFailed, "the daemon is still at it: %s", strings.Join(late, ", ")).WithNext("see how far it is:  vmnetd list")
	}
	return nil
}

func detachedSentence(one vmnetd.Attachment) string {
	said := one.FullName() + ": detached"
	if one.Problem != "" {
		said = one.FullName() + ": detaching: its traffic has ended, the daemon finishes the rest; " + one.Problem
	}
	return strings.Join(append([]string{said}, one.Reasons...), "; ")
}

func allListed(got []vmnetd.Attachment) []vmnetd.Attachment {
	all := make([]vmnetd.Attachment, 0, len(got))
	for _, one := range got {
		all = append(all, listed(one))
	}
	return all
}
