package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) bondCommand() *cobra.Command {
	return group("bond", "Look into a bond or an anchor",
		`What the kernel says of uplinks that are bonds, and of anchors, which are bonds
in active-backup over other uplinks.`,
		a.bondListCommand(), a.bondStateCommand(),
	)
}

func (a *app) bondListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the uplinks that are bonds or anchors",
		Example: `  vmnetd bond list`,
		Args:    takes(nil),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.uplinkList(cmd.Context(), "bond") },
	}
}

func (a *app) bondStateCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "state BOND",
		Short:             "Show everything known about a bond and its ports",
		Example:           `  vmnetd bond state bond0`,
		Args:              takes([]string{"the name of a bond or an anchor"}),
		ValidArgsFunction: a.completeFirst(a.bonds),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.bondState(cmd.Context(), args[0])
		},
	}
}

func (a *app) bondState(ctx context.Context, name string) error {
	return a.with(ctx, func(c client) error {
		u, err := uplinkNamed(ctx, c, name)
		if err != nil {
			return err
		}
		if u.Bond == nil {
			return notThat(u, "bond")
		}
		if a.json {
			return a.printJSON(u.Bond)
		}
		a.printf("%s  %s\n\n", a.io.paint(bold, vmnetd.Printable(u.Name)), vmnetd.Printable(u.State))
		a.printFields(bondFields(*u.Bond))
		for _, p := range u.Bond.Ports {
			a.printBondPort(p, u.Bond)
		}
		return nil
	})
}

func bondFields(b vmnetd.BondState) [][2]string {
	var options []string
	for _, name := range slices.Sorted(maps.Keys(b.Options)) {
		options = append(options, name+" "+orElse(b.Options[name], "none"))
	}
	all := [][2]string{{"mode", b.Mode}, {"active", b.ActivePort}, {"options", strings.Join(options, ", ")}}
	if g := b.Aggregator; g != nil {
		all = append(all,
			[2]string{"group", fmt.Sprintf("%d with %s, key %d, partner's key %d", g.ID, plural(g.Ports, "port"), g.ActorKey, g.PartnerKey)},
			[2]string{"partner", partner(g.PartnerMAC, nil)})
	}
	return all
}

func (a *app) printBondPort(p vmnetd.BondPort, b *vmnetd.BondState) {
	role := p.State
	if p.MII != "" {
		role += ", link " + p.MII
	}
	a.printf("\n%s  %s\n", a.io.paint(bold, vmnetd.Printable(p.Name)), vmnetd.Printable(role))
	a.printFields(bondPortFields(p, b.Aggregator))
}

func bondPortFields(p vmnetd.BondPort, active *vmnetd.Aggregator) [][2]string {
	queue := ""
	if p.QueueID != 0 { // 0 is the kernel's "none"
		queue = plainNumber(p.QueueID)
	}
	all := [][2]string{{"mac", p.PermMAC}, {"prio", number(p.Prio)}, {"queue", queue}, {"failed", times(p.LinkFailures)}}
	if active == nil {
		return all
	}
	group := fmt.Sprintf("%d", p.Aggregator)
	if p.Aggregator != active.ID {
		group += fmt.Sprintf(", not the active one (%d)", active.ID)
	}
	return append(all, [2]string{"group", group},
		[2]string{"actor", churned(p.Actor, p.ActorChurn)}, [2]string{"partner", churned(p.Partner, p.PartnerChurn)})
}

// churned is a port's state, with churn where there is any (IEEE 802.1AX 6.4.17).
func churned(words []string, churn string) string {
	text := orElse(strings.Join(words, ", "), "none")
	if churn != "" && churn != "none" {
		text += "; churn: " + churn
	}
	return text
}
