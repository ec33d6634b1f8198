package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [VM]",
		Short: "List the NICs of all VMs, or of one",
		Example: `  vmnetd list
  vmnetd list vm1 --json`,
		Args:              takes(nil, "VM"),
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			var req vmnetd.Request
			if len(args) > 0 {
				if err := setVM(&req, args[0]); err != nil {
					return err
				}
			}
			return a.list(cmd.Context(), req.VM)
		},
	}
}

func (a *app) list(ctx context.Context, vm string) error {
	return a.with(ctx, func(c client) error {
		got, err := c.List(ctx, vm)
		if err != nil {
			return err
		}
		sortNICs(got)
		if a.json {
			return a.printJSON(allListed(got))
		}
		a.printList(vm, got)
		return nil
	})
}

func (a *app) printList(vm string, got []vmnetd.Attachment) {
	if len(got) == 0 {
		of := "no VM has a NIC of ours"
		if vm != "" {
			of = vm + " has no NIC of ours"
		}
		a.printf("%s; to attach one:  vmnetd attach %s\n", vmnetd.Printable(of), vmnetd.Printable(orElse(vm, "VM")))
		return
	}
	t := nicTable(got, true)
	if !hasIPs(got) || a.io.width > 0 && !t.fits(a.io.width) {
		t = nicTable(got, false)
	}
	a.writeTable(&t)
	for _, one := range got {
		if one.Problem != "" {
			a.printf("%s\n", a.problem(vmnetd.LevelWarn, fmt.Sprintf("%s: %s", one.FullName(), one.Problem)))
		}
	}
}

// nicTable has a column of addresses where there is room for one: a part of an
// address is of no use.
func nicTable(nics []vmnetd.Attachment, ips bool) table {
	t := table{columns: []column{
		{name: "VM", flex: true}, {name: "NIC", flex: true}, {name: "NETWORK", flex: true}, {name: "MODE"},
		{name: "ON", flex: true}, {name: "MAC"}, {name: "IP"}, {name: "QUEUES", right: true}, {name: "STATE"},
	}}
	const ipColumn = 6
	if !ips {
		t.columns = slices.Delete(t.columns, ipColumn, ipColumn+1)
	}
	for _, one := range nics {
		row := []string{one.VM, one.ID, one.Network, one.Device(), onUplink(one), one.MAC, shortIPs(one.IPs), number(one.Queues), stateOf(one)}
		if !ips {
			row = slices.Delete(row, ipColumn, ipColumn+1)
		}
		t.add(row...)
	}
	return t
}

func hasIPs(nics []vmnetd.Attachment) bool {
	return slices.ContainsFunc(nics, func(one vmnetd.Attachment) bool { return len(one.IPs) > 0 })
}

// shortIPs is the first of several addresses.
func shortIPs(ips []string) string {
	if len(ips) < 2 {
		return strings.Join(ips, "")
	}
	return ips[0] + " …"
}

func (a *app) writeTable(t *table) {
	t.write(a.io.out, a.io.width, func(head string) string { return a.io.paint(bold, head) })
}

// problem is a line that stands out: "! text".
func (a *app) problem(level, text string) string {
	color := yellow
	if level == vmnetd.LevelFail {
		color = red
	}
	return a.io.paint(color, "!") + " " + vmnetd.Printable(text)
}

// stateOf is an attachment's phase and, where it is not up, its link.
func stateOf(one vmnetd.Attachment) string {
	switch {
	case one.Phase == vmnetd.Attached && one.Link == "no-carrier":
		return "no carrier"
	case one.Phase == vmnetd.Attached && one.Link == "down": // it follows the VM's CPUs
		return "attached, VM halted"
	}
	return string(one.Phase)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
