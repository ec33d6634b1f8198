package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) convertCommand() *cobra.Command {
	return group("convert", "Turn a team into a bond, or a bond into a team",
		`Shows the equivalent of a team as a bond, or of a bond as a team, and what has
none. With --live it is done, under the guests of an anchor over it.`,
		a.convertTo("team2bond", "TEAM", "bond", "team0", a.teams), a.convertTo("bond2team", "BOND", "team", "bond0", a.bonds),
	)
}

func (a *app) convertTo(use, arg, to, example string, get names) *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   use + " " + arg,
		Short: "Show it as a " + to + ", or make it one",
		Example: "  vmnetd convert " + use + " " + example + `
  vmnetd convert ` + use + " " + example + " --live",
		Args:              takes([]string{"the name of an uplink"}),
		ValidArgsFunction: a.completeFirst(get),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.convert(cmd.Context(), args[0], to, live)
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "do it, under running guests; needs an anchor over it")
	return cmd
}

func (a *app) convert(ctx context.Context, name, to string, live bool) error {
	return a.with(ctx, func(c client) error {
		if live {
			a.asked, a.seeBy = "the conversion", "vmnetd status"
		}
		conv, err := c.Convert(ctx, name, to, live)
		if err != nil {
			return err
		}
		a.asked = ""
		if a.json {
			conv.Differs = append([]string{}, conv.Differs...)
			return a.printJSON(conv)
		}
		a.printConversion(conv)
		if conv.Applied != nil {
			a.printf("\n")
			return a.applied(ctx, c, *conv.Applied)
		}
		a.printConvertNext(conv)
		return nil
	})
}

func (a *app) printConversion(conv vmnetd.Conversion) {
	a.printf("%s as a %s, for uplinks: in vmnetd.yaml:\n\n%s\n", vmnetd.Printable(conv.From), vmnetd.Printable(conv.To), printableLines(conv.Config))
	if len(conv.Differs) > 0 {
		a.printf("\n")
	}
	for _, d := range conv.Differs {
		a.printHung("differs  ", "         ", d)
	}
}

func (a *app) printConvertNext(conv vmnetd.Conversion) {
	a.printf("\n")
	if conv.Anchor == "" {
		a.printHung("", "", "No anchor is over "+conv.From+": guests on it would lose their NICs. Write it into vmnetd.yaml, then  vmnetd uplink plan  shows what it costs.")
		return
	}
	verb := "team2bond"
	if conv.To == "team" {
		verb = "bond2team"
	}
	a.printf("to do it under the guests of %s:  vmnetd convert %s %s --live\n", vmnetd.Printable(conv.Anchor), verb, vmnetd.Printable(conv.From))
}
