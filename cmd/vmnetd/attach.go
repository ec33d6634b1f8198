package main

import (
	"context"
	"fmt"
	"slices"
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
With --via netns: it is a network namespace, of ip netns or of a container, that
gets a device, under the same policy; VM is then the name that you give it.
--live and --config are as virsh means them. --handover fd is for a domain of
libvirt whose device libvirt must not or cannot open; its price stands below.`,
		Example: `  vmnetd attach vm1
  vmnetd attach vm1 --network lan --mode private --queues 4
  vmnetd attach vm1 --id net1 --mac 52:54:00:12:34:56
  vmnetd attach vm1 --mode l2 --ip 192.0.2.101
  vmnetd attach c1 --via netns:c1 --name eth0 --ip 192.0.2.9/24 \
    --route "default via 192.0.2.1"
  vmnetd attach vm1 --live --config
  vmnetd attach vm1 --dry-run`,
		Args:              takes([]string{"the name of a VM"}),
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setAsked(&req, args[0]); err != nil {
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
		if err := a.printAttached(got, a.hostLinked(ctx, c, got)); err != nil {
			return err
		}
		if kept(got) {
			return nil
		}
		return notAttachedYet(got)
	})
}

// hostLinked says whether this host has a link of its own to the NIC's network. A
// daemon that does not say has none.
func (a *app) hostLinked(ctx context.Context, c client, got vmnetd.Attachment) bool {
	if a.json || !got.Changed {
		return false
	}
	links, _ := c.HostLinks(ctx)
	return slices.ContainsFunc(links, func(l vmnetd.HostLink) bool { return l.Network == got.Network && l.Uplink == got.Uplink })
}

func (a *app) printAttached(got vmnetd.Attachment, linked bool) error {
	if a.json {
		return a.printJSON(listed(got))
	}
	a.printHanging("", "  ", sentence(got))
	for _, line := range mind(got, linked) {
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
	parts := []string{fmt.Sprintf("%s on %s (%s)", got.Device(), onUplink(got), got.Ifname)}
	if got.Network != "" {
		parts = append([]string{"network " + got.Network}, parts...)
	}
	text := got.FullName() + ": " + strings.Join(slices.Concat(parts, holder(got), []string{got.MAC}, addressed(got), queued(got)), ", ")
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

// holder says where an endpoint is: "eth0 in /run/netns/c1".
func holder(got vmnetd.Attachment) []string {
	path, netns := vmnetd.NetnsPath(got.Via)
	if !netns {
		return nil
	}
	return []string{orElse(got.Name, got.Ifname) + " in " + path}
}

// mostIPs is how many addresses a sentence names.
const mostIPs = 4

// addressed names the addresses; a mode that delivers to known ones alone learns
// them where none is known yet.
func addressed(got vmnetd.Attachment) []string {
	switch n := len(got.IPs); {
	case n > mostIPs:
		return append(got.IPs[:mostIPs:mostIPs], fmt.Sprintf("%d more addresses", n-mostIPs))
	case n == 0 && got.Mode.Info().NeedsIPs:
		return []string{"learns its addresses"}
	}
	return got.IPs
}

// queued says how the queues are served; an endpoint has none.
func queued(got vmnetd.Attachment) []string {
	switch _, netns := vmnetd.NetnsPath(got.Via); {
	case netns:
		return nil
	case got.VHost:
		return []string{plural(got.Queues, "queue"), "vhost"}
	case got.VHostReason == "": // mind says it with its reason
		return []string{plural(got.Queues, "queue"), "no vhost"}
	}
	return []string{plural(got.Queues, "queue")}
}

// mind is what an operator should keep in mind about an attachment.
func mind(got vmnetd.Attachment, linked bool) []string {
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
	if got.Changed {
		lines = append(lines, mindHost(got, linked)...)
	}
	for i := range lines {
		lines[i] = vmnetd.Printable(lines[i])
	}
	return lines
}

// mindHost is what the mode does to host and guest, by the table of modes; linked
// says that this host has a link of its own to the network.
func mindHost(got vmnetd.Attachment, linked bool) []string {
	info := got.Mode.Info()
	lines := []string{}
	if text := mindReach(got, info, linked); text != "" {
		lines = append(lines, text)
	}
	if info.Routed {
		lines = append(lines, fmt.Sprintf("this host routes for %s: by its routing table and output chain, and the network needs routes to the guest's addresses (vmnetd show %s)", got.VM, got.FullName()))
	}
	if info.SharesMAC {
		lines = append(lines, fmt.Sprintf("%s has the MAC of %s, as every guest there has: DHCP has to tell guests apart by their client identifier", got.VM, onUplink(got)))
	}
	return lines
}

// mindReach is whether this host and the guest reach each other.
func mindReach(got vmnetd.Attachment, info vmnetd.ModeInfo, linked bool) string {
	switch {
	case info.Mode == "" || info.HostSees:
		return ""
	case info.Exclusive:
		return fmt.Sprintf("while %s has %s, this host itself receives nothing there", got.VM, got.Uplink)
	case info.Neighbours == "reflected":
		return fmt.Sprintf("this host and %s reach each other only if the switch sends frames back out of the port they came in by", got.VM)
	}
	text := fmt.Sprintf("this host and %s cannot reach each other over %s", got.VM, got.Device())
	switch {
	case info.Neighbours != "direct" || got.Network == "": // its own link would be one more neighbour
		return text
	case linked:
		return ""
	}
	return text + "; to open it:  vmnetd host-link " + got.Network
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
