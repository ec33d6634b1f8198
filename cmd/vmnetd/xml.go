package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) xmlCommand() *cobra.Command {
	var req vmnetd.Request
	cmd := &cobra.Command{
		Use:   "xml VM",
		Short: "Print the <interface> element of a NIC for a VM of libvirt",
		Long: `Prints the element that gives a VM of libvirt the NIC that the policy grants,
for whoever writes its definition (virsh edit, Terraform). The VM need not exist
yet. Nothing is changed: the device is made when the VM starts, by the hook
(vmnetd hook install), and the rules decide once more then. What has to be asked
for, another network than the rules' first for one, stands in a comment after
it: it goes into the domain's <metadata>.`,
		Example: `  vmnetd xml vm1 --network lan
  vmnetd xml vm1 > nic.xml && virsh attach-device vm1 nic.xml --config`,
		Args:              takes([]string{"the name of a VM"}),
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setVM(&req, args[0]); err != nil {
				return err
			}
			return a.domainXML(cmd.Context(), req)
		},
	}
	addRequestFlags(cmd.Flags(), &req, "via", "name", "route", "bus", "addr", "handover")
	a.completeRequestFlags(cmd)
	return cmd
}

// elementOf is what `xml --json` prints.
type elementOf struct {
	VM  string `json:"vm"`
	XML string `json:"xml"`
}

func (a *app) domainXML(ctx context.Context, req vmnetd.Request) error {
	return a.with(ctx, func(c client) error {
		text, err := c.DomainXML(ctx, req)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(elementOf{req.VM, text})
		}
		a.printf("%s\n", strings.TrimRight(text, "\n"))
		return nil
	})
}
