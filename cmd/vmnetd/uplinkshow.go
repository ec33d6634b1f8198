package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

func (a *app) uplinkShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show UPLINK",
		Short:             "Show one uplink with everything known about it",
		Example:           `  vmnetd uplink show team0`,
		Args:              takes([]string{"the name of an uplink"}),
		ValidArgsFunction: a.completeFirst(a.uplinks),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.uplinkShow(cmd.Context(), args[0])
		},
	}
}

func (a *app) uplinkShow(ctx context.Context, name string) error {
	return a.with(ctx, func(c client) error {
		u, err := uplinkNamed(ctx, c, name)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(whole(u))
		}
		a.printUplink(u)
		if dropped := droppedOn(ctx, u); dropped != "" {
			a.printFields([][2]string{{"dropped", dropped}})
		}
		return nil
	})
}

// droppedOn is how many frames an uplink received and dropped, "" for none, and
// where this process is in another network namespace than the daemon.
func droppedOn(ctx context.Context, u vmnetd.UplinkState) string {
	conn, err := rtnl.Open()
	if err != nil {
		return ""
	}
	defer conn.Close()
	link, err := conn.LinkByIndex(ctx, u.Ifindex)
	if err != nil || link.Name != u.Ifname || link.MAC.String() != u.MAC {
		return ""
	}
	n, err := conn.Dropped(ctx, u.Ifindex)
	if err != nil || n == 0 {
		return ""
	}
	return fmt.Sprintf("%d received frames: nobody wanted them, or broadcasts came faster than they were copied to guests (macvlan: {bcqueuelen: …})", n)
}

func (a *app) printUplink(u vmnetd.UplinkState) {
	a.printf("%s  %s, %s\n", a.io.paint(bold, vmnetd.Printable(u.Name)), vmnetd.Printable(u.Kind), vmnetd.Printable(u.State))
	if u.Problem != "" {
		a.printf("%s\n", a.problem(vmnetd.LevelWarn, u.Problem))
	}
	a.printUplinkNotes([]vmnetd.UplinkState{u})
	a.printf("\n")
	a.printFields(a.uplinkFields(u))
	if u.Team != nil {
		a.printFields(teamFields(*u.Team))
		for _, p := range u.Team.Ports {
			a.printTeamPort(p, u.Team)
		}
	}
	if u.Bond != nil {
		a.printFields(bondFields(*u.Bond))
		for _, p := range u.Bond.Ports {
			a.printBondPort(p, u.Bond)
		}
	}
}

func (a *app) uplinkFields(u vmnetd.UplinkState) [][2]string {
	device := "none yet"
	if u.Ifindex != 0 {
		device = fmt.Sprintf("%s (ifindex %d)", u.Ifname, u.Ifindex)
	}
	announced := ""
	if u.Announced != nil {
		announced = strings.TrimPrefix(a.announcedLine(*u.Announced), "last ")
	}
	return [][2]string{
		{"device", device}, {"mac", u.MAC}, {"mtu", number(u.MTU)}, {"path", u.Path}, {"ports", strings.Join(u.Ports, ", ")},
		{"guests", plainNumber(u.Guests)}, {"changed", a.lastChange(u)}, {"told", announced},
	}
}
