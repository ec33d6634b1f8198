package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) hostLinkCommand() *cobra.Command {
	var req vmnetd.HostLinkRequest
	var ips ipList
	cmd := &cobra.Command{
		Use:   "host-link [NETWORK] [--ip ADDRESS/LENGTH | --remove]",
		Short: "Let this host and the guests of a network reach each other",
		Long: `Gives this host a device of its own on the uplink of a network, a macvlan, or an
ipvlan where ipvtaps stand, with an address of its own: guests on macvtap and
ipvtap do not reach the host by the uplink's address. It is kept over restarts
and reboots; --remove takes it away. Without NETWORK it lists what there is.`,
		Example: `  vmnetd host-link lan --ip 192.0.2.18/24
  vmnetd host-link lan --remove
  vmnetd host-link`,
		Args:              takes(nil, "NETWORK"),
		ValidArgsFunction: a.completeFirst(a.linkable),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.IPs = ips.texts
			switch {
			case len(args) == 0 && (len(req.IPs) > 0 || req.Uplink != "" || req.Remove):
				return usage(cmd, "%s needs the name of a network for that", cmd.CommandPath())
			case req.Remove && (len(req.IPs) > 0 || req.Uplink != ""):
				return usage(cmd, "--remove takes neither --ip nor --uplink")
			case len(args) == 0:
				return a.hostLinks(cmd.Context())
			}
			req.Network = args[0]
			return a.hostLink(cmd.Context(), req)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().Var(&ips, "ip", "address of this host on it; repeat it, or separate several by commas")
	cmd.Flags().StringVar(&req.Uplink, "uplink", "", "the `UPLINK`, one of the network's; otherwise as a guest would get it")
	cmd.Flags().BoolVar(&req.Remove, "remove", false, "take it away")
	a.completeFlag(cmd, "uplink", a.uplinks)
	completeAlone(cmd, "ip", noWords)
	return cmd
}

// ipList is a pflag.Value: addresses of this host.
type ipList struct{ texts []string }

func (l *ipList) String() string { return strings.Join(l.texts, ",") }
func (l *ipList) Type() string   { return "ADDRESS/LENGTH" }

func (l *ipList) Set(s string) (err error) {
	l.texts, err = vmnetd.CheckHostIPs(append(l.texts, strings.Split(s, ",")...))
	return err
}

func (a *app) hostLink(ctx context.Context, req vmnetd.HostLinkRequest) error {
	return a.with(ctx, func(c client) error {
		a.asked, a.seeBy = "the host link", "vmnetd host-link"
		got, err := c.HostLink(ctx, req)
		if err != nil {
			return err
		}
		if a.json {
			if err := a.printJSON(linkListed(got)); err != nil {
				return err
			}
		} else {
			a.printHanging("", "  ", linkSentence(req, got))
		}
		if got.Problem != "" && !req.Remove {
			return vmnetd.Errorf(vmnetd.ErrFailed, "the link to %s is kept, and does not work yet: %s", req.Network, got.Problem).
				WithNext("the daemon keeps trying; see  vmnetd host-link,  give up with  vmnetd host-link " + req.Network + " --remove")
		}
		return nil
	})
}

// linkSentence says in one line what was done.
func linkSentence(req vmnetd.HostLinkRequest, got vmnetd.HostLink) string {
	var text string
	switch {
	case req.Remove && !got.Changed:
		return vmnetd.Printable("this host has no link of its own to " + req.Network + " (already so)")
	case req.Remove:
		return vmnetd.Printable("this host's own link to " + req.Network + " is removed: it and guests no longer reach each other by it")
	case got.Problem != "": // which the error says
		text = fmt.Sprintf("this host is to reach guests of %s by %s", req.Network, linkDevice(got))
	default:
		text = fmt.Sprintf("this host reaches guests of %s by %s", req.Network, linkDevice(got))
	}
	if !got.Changed {
		text += " (already so)"
	}
	return vmnetd.Printable(text)
}

// linkDevice is "vml4k2x (192.0.2.18/24) on eno1".
func linkDevice(got vmnetd.HostLink) string {
	return fmt.Sprintf("%s (%s) on %s", got.Ifname, strings.Join(got.IPs, ", "), linkOn(got))
}

func linkOn(got vmnetd.HostLink) string {
	return onUplink(vmnetd.Attachment{Uplink: got.Uplink, VLAN: got.VLAN})
}

func (a *app) hostLinks(ctx context.Context) error {
	return a.with(ctx, func(c client) error {
		got, err := c.HostLinks(ctx)
		if err != nil {
			return err
		}
		list := []vmnetd.HostLink{}
		for _, one := range got {
			list = append(list, linkListed(one))
		}
		if a.json {
			return a.printJSON(list)
		}
		a.printHostLinks(list)
		return nil
	})
}

func (a *app) printHostLinks(list []vmnetd.HostLink) {
	if len(list) == 0 {
		a.printf("this host has no link of its own to a network; to make one:\nvmnetd host-link NETWORK --ip ADDRESS/LENGTH\n")
		return
	}
	t := table{columns: []column{
		{name: "NETWORK", flex: true}, {name: "ON", flex: true}, {name: "DEVICE"}, {name: "MODE"}, {name: "ADDRESS", flex: true}, {name: "GUESTS", right: true},
	}}
	for _, one := range list {
		mode := vmnetd.Attachment{Kind: one.Kind, Mode: one.Mode}.Device()
		t.add(one.Network, linkOn(one), one.Ifname, mode, shortIPs(one.IPs), plainNumber(len(one.Guests)))
	}
	a.writeTable(&t)
	for _, one := range list {
		if one.Problem != "" {
			a.printf("%s\n", a.problem(vmnetd.LevelWarn, fmt.Sprintf("%s: %s", one.Network, one.Problem)))
		}
	}
}

// linkListed makes empty lists [] in JSON, as the contract has them.
func linkListed(got vmnetd.HostLink) vmnetd.HostLink {
	got.IPs, got.Guests = append([]string{}, got.IPs...), append([]string{}, got.Guests...)
	return got
}

// linkable are networks that guests stand on, and those that have a link.
func (a *app) linkable(ctx context.Context, c client, _ string) ([]string, error) {
	words, err := a.networks(ctx, c, "")
	if err != nil {
		return nil, err
	}
	links, err := c.HostLinks(ctx)
	for _, l := range links {
		words = append(words, l.Network)
	}
	return words, err
}
