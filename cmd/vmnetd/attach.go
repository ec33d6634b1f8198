package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) attachCommand() *cobra.Command {
	var req vmnetd.Request
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "attach VM",
		Short: "Give a VM a NIC",
		Long: `Gives a VM a NIC: the policy chooses network, uplink and mode within what you
ask for, the device is made, handed to the running QEMU and set up.
The same attach twice is a success that changes nothing.
--live and --config are as virsh means them. --handover fd is for a domain of
libvirt whose device libvirt must not or cannot open; its price stands below.`,
		Example: `  vmnetd attach vm1
  vmnetd attach vm1 --network lan --mode private --queues 4
  vmnetd attach vm1 --id net1 --mac 52:54:00:12:34:56
  vmnetd attach vm1 --live --config
  vmnetd attach vm1 --dry-run`,
		Args:              takes([]string{"the name of a VM"}),
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setVM(&req, args[0]); err != nil {
				return err
			}
			if dryRun {
				return a.attachDry(cmd.Context(), req)
			}
			return a.attach(cmd.Context(), req)
		},
	}
	addRequestFlags(cmd.Flags(), &req)
	addScopeFlags(cmd.Flags(), &req.Live, &req.Config)
	addIncomingFlag(cmd.Flags(), &req)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done and change nothing")
	a.completeRequestFlags(cmd)
	return cmd
}

func (a *app) attach(ctx context.Context, req vmnetd.Request) error {
	return a.with(ctx, func(c client) error {
		a.asked = "the attach"
		got, err := c.Attach(ctx, req)
		if err != nil {
			return err
		}
		if err := a.printAttached(got); err != nil {
			return err
		}
		if kept(got) {
			return nil
		}
		return notAttachedYet(got)
	})
}

func (a *app) printAttached(got vmnetd.Attachment) error {
	if a.json {
		return a.printJSON(listed(got))
	}
	a.printHanging("", "  ", sentence(got))
	for _, line := range mind(got) {
		a.printHanging("  mind: ", "        ", line)
	}
	return nil
}

// kept says that the NIC is written down for the VM's next start, which is all
// that was asked for.
func kept(got vmnetd.Attachment) bool { return got.Problem == vmnetd.NextStart }

// notAttachedYet makes a script see that the guest has no traffic yet, though
// the NIC is wanted and the daemon keeps at it.
func notAttachedYet(got vmnetd.Attachment) error {
	if got.Phase == vmnetd.Attached {
		return nil
	}
	text := fmt.Sprintf("%s is %s, not attached", got.FullName(), got.Phase)
	if got.Problem != "" {
		text += ": " + got.Problem
	}
	if got.Phase == vmnetd.Detaching { // the VM has ended meanwhile, or somebody detached it
		return vmnetd.Errorf(vmnetd.ErrFailed, "%s", text).WithNext("vmnetd list " + got.VM)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "%s", text).
		WithNext(fmt.Sprintf("the daemon keeps trying; see  vmnetd show %s,  give up with  vmnetd detach %s --id %s", got.FullName(), got.VM, got.ID))
}

// sentence says in one line what an attachment is.
func sentence(got vmnetd.Attachment) string {
	parts := []string{fmt.Sprintf("%s on %s (%s)", got.Mode.WithKind(), onUplink(got), got.Ifname)}
	if got.Network != "" {
		parts = append([]string{"network " + got.Network}, parts...)
	}
	parts = append(parts, got.MAC, plural(got.Queues, "queue"))
	switch {
	case got.VHost:
		parts = append(parts, "vhost")
	case got.VHostReason == "": // mind says it with its reason
		parts = append(parts, "no vhost")
	}
	text := got.FullName() + ": " + strings.Join(parts, ", ")
	if got.Rule != "" {
		text += "; rule " + got.Rule
	}
	if kept(got) {
		text += "; kept for the VM's next start"
	}
	if !got.Changed && (kept(got) || got.Phase == vmnetd.Attached) {
		text += " (already so)"
	}
	return vmnetd.Printable(text)
}

// mind is what an operator should keep in mind about an attachment.
func mind(got vmnetd.Attachment) []string {
	var lines []string
	if !got.VHost && got.VHostReason != "" {
		lines = append(lines, "no vhost: "+got.VHostReason)
	}
	if got.Phase == vmnetd.Attached && got.Problem != "" {
		lines = append(lines, got.Problem)
	}
	if got.Link == "no-carrier" {
		lines = append(lines, got.Uplink+" has no carrier")
	}
	if text := mindHost(got); text != "" && got.Changed {
		lines = append(lines, text)
	}
	for i := range lines {
		lines[i] = vmnetd.Printable(lines[i])
	}
	return lines
}

// mindHost is what the mode does to host and guest, by the table of modes.
func mindHost(got vmnetd.Attachment) string {
	info := got.Mode.Info()
	switch {
	case info.Kind != vmnetd.Macvtap || info.HostSees:
		return ""
	case info.Exclusive:
		return fmt.Sprintf("while %s has %s, this host itself receives nothing there", got.VM, got.Uplink)
	case info.Neighbours == "reflected":
		return fmt.Sprintf("this host and %s reach each other only if the switch sends frames back out of the port they came in by", got.VM)
	}
	return fmt.Sprintf("this host and %s cannot reach each other over %s", got.VM, got.Mode.WithKind())
}

// onUplink names what an attachment stands on.
func onUplink(got vmnetd.Attachment) string {
	if got.VLAN != 0 {
		return fmt.Sprintf("%s.%d", got.Uplink, got.VLAN)
	}
	return got.Uplink
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// listed makes empty lists [] in JSON, as the contract has them.
func listed(got vmnetd.Attachment) vmnetd.Attachment {
	if got.IPs == nil {
		got.IPs = []string{}
	}
	if got.Reasons == nil {
		got.Reasons = []string{}
	}
	return got
}
