package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) importCommand() *cobra.Command {
	var apply, revert bool
	cmd := &cobra.Command{
		Use:   "import VM [--apply | --revert]",
		Short: "Make NICs of vmnetd of a VM's interfaces in libvirt",
		Long: `Shows which interfaces of type direct and bridge in the definition that libvirt
keeps of a VM would become NICs of vmnetd, and does it with --apply, for a VM
that is shut off. MAC and PCI address stay: the guest sees the same card.
--revert makes them what they were before.`,
		Example: `  vmnetd import vm1
  vmnetd import vm1 --apply
  vmnetd import vm1 --revert`,
		Args:              takes([]string{"the name of a VM"}),
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := vmnetd.CheckVMName(args[0]); err != nil {
				return err
			}
			if apply && revert {
				return usage(cmd, "give only one of --apply and --revert")
			}
			return a.importVM(cmd.Context(), args[0], vmnetd.ImportOptions{Apply: apply || revert, Revert: revert})
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "do it; the VM must be shut off")
	cmd.Flags().BoolVar(&revert, "revert", false, "undo it; the VM must be shut off")
	return cmd
}

func (a *app) importVM(ctx context.Context, vm string, o vmnetd.ImportOptions) error {
	return a.with(ctx, func(c client) error {
		got, err := c.Import(ctx, vm, o)
		if err != nil {
			return err
		}
		got.Changes = append([]vmnetd.ImportChange{}, got.Changes...) // never null
		if a.json {
			if err := a.printJSON(got); err != nil {
				return err
			}
		} else {
			a.printImport(got, o)
		}
		if o.Apply && !got.Applied && len(got.Changes) > 0 { // why not stands in what was printed
			return &exitError{code: vmnetd.ClassOf(vmnetd.ErrBusy).Exit}
		}
		return nil
	})
}

// printImport prints problems first, then what changes and what stays, then what
// to type.
func (a *app) printImport(got vmnetd.Import, o vmnetd.ImportOptions) {
	var change, stay []vmnetd.ImportChange
	for _, ch := range got.Changes {
		if ch.Problem != "" {
			stay = append(stay, ch)
			continue
		}
		change = append(change, ch)
	}
	for _, ch := range stay {
		a.printHung("! ", "  ", fmt.Sprintf("%s (%s) stays as it is: %s", ch.MAC, ch.From, ch.Problem))
	}
	if len(stay) > 0 {
		a.printf("\n")
	}
	if len(change) == 0 {
		a.printHung("", "", importNothing(got.VM, o))
		return
	}
	for _, ch := range change {
		head := fmt.Sprintf("~ %s  %s  ", vmnetd.Printable(ch.MAC), vmnetd.Printable(orElse(ch.Addr, "-")))
		indent := strings.Repeat(" ", len(head))
		a.printHung(head, indent, ch.From)
		a.printHung(indent+"-> ", indent+"   ", importedAs(ch, o.Revert))
	}
	a.printf("\n")
	a.printHung("", "", importSaid(got))
	a.printf("next: %s\n", vmnetd.Printable(importNext(got, o)))
}

// importedAs is what an interface becomes, in words.
func importedAs(ch vmnetd.ImportChange, back bool) string {
	text := ch.To
	if back {
		return text
	}
	if ch.ID != "" {
		text = ch.ID + ", " + text
	}
	if ch.Network != "" {
		text += ", network " + ch.Network
	}
	return text
}

func importNothing(vm string, o vmnetd.ImportOptions) string {
	if o.Revert {
		return "No interface of " + vm + " was made by an import: nothing is changed."
	}
	return "No interface of " + vm + " can become a NIC of vmnetd: nothing is changed."
}

func importSaid(got vmnetd.Import) string {
	said := "MAC and PCI address stay: the guest sees the same card."
	if got.Applied {
		return "Done, for the next start of " + got.VM + ". " + said
	}
	return "Nothing was changed. " + said
}

func importNext(got vmnetd.Import, o vmnetd.ImportOptions) string {
	switch {
	case !got.Applied && o.Revert:
		return "vmnetd import " + got.VM + " --revert"
	case !got.Applied:
		return "vmnetd import " + got.VM + " --apply"
	case o.Revert:
		return "virsh start " + got.VM
	}
	return "virsh start " + got.VM + ", or back:  vmnetd import " + got.VM + " --revert"
}
