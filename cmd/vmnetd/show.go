package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show VM/NIC | IFNAME | MAC | IP",
		Short: "Show one NIC with everything known about it",
		Long: `Shows one NIC: what it is, by which rule, where it stands, and what its filter
has dropped. An IP address shows the NIC that has it.`,
		Example: `  vmnetd show vm1/net0
  vmnetd show 52:54:00:12:34:56
  vmnetd show 192.0.2.101`,
		Args:              takes([]string{"VM/NIC, the name of a device, a MAC or an IP address"}),
		ValidArgsFunction: a.completeNIC,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.show(cmd.Context(), args[0])
		},
	}
}

// shownNIC is what `show --json` prints.
type shownNIC struct {
	vmnetd.Attachment
	Filter []vmnetd.Counter `json:"filter"`
}

func (a *app) show(ctx context.Context, what string) error {
	return a.with(ctx, func(c client) error {
		all, err := c.List(ctx, "")
		if err != nil {
			return err
		}
		one, err := pick(all, what)
		if err != nil {
			return err
		}
		filter, err := counters(ctx, c, one)
		switch {
		case err != nil && a.json:
			return err
		case a.json:
			return a.printJSON(shownNIC{listed(one), filter})
		}
		a.printShow(one)
		a.printFilter(filter)
		return err // all that is known stands there already
	})
}

func (a *app) printShow(one vmnetd.Attachment) {
	a.printf("%s  %s\n", a.io.paint(bold, vmnetd.Printable(one.FullName())), stateOf(one))
	if one.Problem != "" {
		a.printf("%s\n", a.problem(vmnetd.LevelWarn, one.Problem))
	}
	a.printf("\n")
	a.printFields(fields(one))
	if len(one.Reasons) > 0 {
		a.printf("\n  because\n")
	}
	for _, r := range one.Reasons {
		a.printHanging("  ", "    ", vmnetd.Printable(r))
	}
}

// fields is an attachment as label and value; one without a value is not shown.
func fields(one vmnetd.Attachment) [][2]string {
	device := one.Ifname
	if one.Ifindex != 0 {
		device = fmt.Sprintf("%s (ifindex %d)", one.Ifname, one.Ifindex)
	}
	return [][2]string{
		{"network", one.Network}, {"uplink", onUplink(one)}, {"mode", one.Device()}, {"device", device},
		{"netns", livesIn(one)}, {"link", one.Link}, {"mac", one.MAC}, {"ips", ipsOf(one)}, {"mtu", number(one.MTU)},
		{"queues", queuesOf(one)}, {"routes", strings.Join(one.Routes, ", ")}, {"export", exported(one)}, {"via", one.Via}, {"rule", one.Rule},
	}
}

// livesIn is the network namespace of the device, where that is not this host's.
func livesIn(one vmnetd.Attachment) string {
	if info := one.Mode.Info(); info.Moves && one.Kind == info.Kind {
		return "vmnetd's own; vmnetd doctor says how to look into it"
	}
	return strings.Join(holder(one), "")
}

// ipsOf marks addresses that were learned.
func ipsOf(one vmnetd.Attachment) string {
	var list []string
	for _, ip := range one.IPs {
		if slices.Contains(one.Learned, ip) {
			ip += " (learned)"
		}
		list = append(list, ip)
	}
	if len(list) == 0 && one.Mode.Info().NeedsIPs {
		return "none known yet"
	}
	return strings.Join(list, ", ")
}

// queuesOf is nothing for an endpoint, which has no queues of a guest's.
func queuesOf(one vmnetd.Attachment) string {
	vhost := "vhost"
	if !one.VHost {
		vhost = "no vhost"
	}
	if !one.VHost && one.VHostReason != "" {
		vhost += ": " + one.VHostReason
	}
	if _, netns := vmnetd.NetnsPath(one.Via); netns {
		return ""
	}
	return fmt.Sprintf("%d, %s", one.Queues, vhost)
}

// exported is what the network's routers must know of a guest that is routed.
func exported(one vmnetd.Attachment) string {
	if len(one.GuestSide) == 0 {
		return ""
	}
	return strings.Join(one.GuestSide, ", ") + ": routes that lead here"
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
