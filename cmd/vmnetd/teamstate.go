package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) teamStateCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "state TEAM",
		Short:             "Show everything known about a team and its ports",
		Example:           `  vmnetd team state team0`,
		Args:              takes([]string{"the name of a team"}),
		ValidArgsFunction: a.completeFirst(a.teams),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.teamState(cmd.Context(), args[0])
		},
	}
}

func (a *app) teamState(ctx context.Context, name string) error {
	return a.with(ctx, func(c client) error {
		u, err := uplinkNamed(ctx, c, name)
		if err != nil {
			return err
		}
		if u.Team == nil {
			return notThat(u, "team")
		}
		if a.json {
			return a.printJSON(u.Team)
		}
		a.printf("%s  %s\n\n", a.io.paint(bold, vmnetd.Printable(u.Name)), vmnetd.Printable(u.State))
		a.printFields(teamFields(*u.Team))
		for _, p := range u.Team.Ports {
			a.printTeamPort(p, u.Team)
		}
		return nil
	})
}

// notThat says that an uplink is of another kind, or that its device is missing.
func notThat(u vmnetd.UplinkState, kind string) error {
	if u.Kind == kind || kind == vmnetd.UplinkBond && u.Kind == vmnetd.UplinkAnchor {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device of %s yet", u.Name).WithNext("vmnetd uplink plan " + u.Name)
	}
	return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is no %s but of kind %s", u.Name, kind, u.Kind).WithNext(fmt.Sprintf("vmnetd %s list, or  vmnetd uplink show %s", kind, u.Name))
}

func teamFields(t vmnetd.TeamState) [][2]string {
	whose := "somebody else's: never stopped or started by vmnetd"
	if t.Ours {
		whose = "ours"
	}
	controller := "teamd " + t.Controller + ", " + whose
	if t.PID != 0 {
		controller = fmt.Sprintf("teamd %s (pid %d), %s", t.Controller, t.PID, whose)
	}
	all := [][2]string{{"runner", t.Runner}, {"active", t.ActivePort}, {"teamd", strings.TrimPrefix(controller, "teamd ")}}
	if l := t.LACP; l != nil {
		mode, rate := "passive", "slow: a LACPDU every 30 s"
		if l.Active {
			mode = "active"
		}
		if l.FastRate {
			rate = "fast: a LACPDU every second"
		}
		all = append(all, [2]string{"lacp", fmt.Sprintf("%s, %s, system priority %d", mode, rate, l.SysPrio)}, [2]string{"selects", l.SelectPolicy})
	}
	return all
}

func (a *app) printTeamPort(p vmnetd.TeamPort, t *vmnetd.TeamState) {
	role := upDown(p.Link)
	if p.Name == t.ActivePort {
		role += ", active"
	}
	a.printf("\n%s  %s\n", a.io.paint(bold, vmnetd.Printable(p.Name)), role)
	a.printFields(teamPortFields(p, t.LACP != nil))
}

func teamPortFields(p vmnetd.TeamPort, lacp bool) [][2]string {
	prio := plainNumber(p.Prio)
	if p.Sticky {
		prio += ", sticky"
	}
	queue := ""
	if p.QueueID >= 0 {
		queue = plainNumber(p.QueueID)
	}
	var watches []string
	for _, w := range p.Watches {
		watches = append(watches, fmt.Sprintf("%s %s (down %s)", w.Name, upDown(w.Up), times(w.Down)))
	}
	all := [][2]string{
		{"speed", speed(p.Speed, p.Duplex)}, {"prio", prio}, {"queue", queue}, {"watches", strings.Join(watches, ", ")}, {"down", times(p.DownCount)},
	}
	if !lacp {
		return all
	}
	aggregator := "none selected"
	if p.Selected {
		aggregator = fmt.Sprintf("%d, selected", p.Aggregator)
	}
	return append(all, [2]string{"lacp", p.LACPState}, [2]string{"group", aggregator},
		[2]string{"actor", strings.Join(p.Actor, ", ")}, [2]string{"partner", partner(p.PartnerMAC, p.Partner)})
}

// partner is what the other side says, or that there is none.
func partner(mac string, words []string) string {
	if mac == "" || mac == "00:00:00:00:00:00" {
		return "nobody answers"
	}
	return strings.TrimSuffix(mac+": "+strings.Join(words, ", "), ": ")
}

func speed(mbit int, duplex string) string {
	if mbit <= 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%d Mbit/s %s", mbit, duplexWord(duplex)))
}

func duplexWord(duplex string) string {
	if duplex == "full" || duplex == "half" {
		return duplex + " duplex"
	}
	return duplex
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// printFields prints label and value; what is not known is left out.
func (a *app) printFields(fields [][2]string) {
	for _, f := range fields {
		if f[1] != "" {
			a.printHanging(fmt.Sprintf("  %-9s", f[0]), "           ", vmnetd.Printable(f[1]))
		}
	}
}
