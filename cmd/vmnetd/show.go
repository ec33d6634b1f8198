package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show VM/NIC | IFNAME | MAC",
		Short: "Show one NIC with everything known about it",
		Example: `  vmnetd show vm1/net0
  vmnetd show 52:54:00:12:34:56`,
		Args:              takes([]string{"VM/NIC, the name of a device or a MAC"}),
		ValidArgsFunction: a.completeNIC,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.show(cmd.Context(), args[0])
		},
	}
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
		if a.json {
			return a.printJSON(listed(one))
		}
		a.printShow(one)
		return nil
	})
}

// pick finds the attachment that is called what.
func pick(all []vmnetd.Attachment, what string) (vmnetd.Attachment, error) {
	mac, _ := net.ParseMAC(what)
	var near []string
	for _, one := range all {
		if one.FullName() == what || one.Ifname == what || mac != nil && one.MAC == mac.String() {
			return one, nil
		}
		vm, _, _ := strings.Cut(what, "/")
		if one.VM == vm {
			near = append(near, "vmnetd show "+one.FullName())
		}
	}
	err := vmnetd.Errorf(vmnetd.ErrNotFound, "there is no NIC %q", what)
	if len(near) > 0 {
		return vmnetd.Attachment{}, err.WithNext(strings.Join(near, ", or "))
	}
	return vmnetd.Attachment{}, err.WithNext("vmnetd list")
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

// fields is an attachment as label and value.
func fields(one vmnetd.Attachment) [][2]string {
	vhost := "vhost"
	if !one.VHost {
		vhost = "no vhost"
		if one.VHostReason != "" {
			vhost += ": " + one.VHostReason
		}
	}
	device := one.Ifname
	if one.Ifindex != 0 {
		device = fmt.Sprintf("%s (ifindex %d)", one.Ifname, one.Ifindex)
	}
	return [][2]string{
		{"network", one.Network}, {"uplink", onUplink(one)}, {"mode", one.Mode.WithKind()}, {"device", device},
		{"link", one.Link}, {"mac", one.MAC}, {"ips", strings.Join(one.IPs, ", ")}, {"mtu", number(one.MTU)},
		{"queues", fmt.Sprintf("%d, %s", one.Queues, vhost)}, {"via", one.Via}, {"rule", one.Rule},
	}
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
