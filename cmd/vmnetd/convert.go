package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/uplink"
)

func (a *app) convertCommand() *cobra.Command {
	return group("convert", "Turn a team into a bond, a bond or a file of teamd into a team",
		`Shows the equivalent of a team as a bond, or of a bond as a team, and what has
none. With --live it is done, under the guests of an anchor over it.`,
		a.convertTo("team2bond", "TEAM", "bond", "team0", a.teams), a.convertTo("bond2team", "BOND", "team", "bond0", a.bonds),
		a.convertTeamdCommand(),
	)
}

func (a *app) convertTeamdCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "teamd FILE",
		Short: "Show what a configuration of teamd is here",
		Long: `Reads a configuration of teamd (teamd.conf(5)), says what teamd would refuse of
it or pass over, and shows it as an uplink. Nothing is changed; no daemon is
needed.`,
		Example: `  vmnetd convert teamd /etc/teamd/team0.conf`,
		Args:    takes([]string{"a file"}),
		RunE:    func(_ *cobra.Command, args []string) error { return a.convertTeamd(args[0]) },
	}
}

// teamdLimit is the most of a file of teamd's that is read.
const teamdLimit = 1 << 20

func (a *app) convertTeamd(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "cannot read teamd's configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, teamdLimit+1))
	switch {
	case err != nil:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "cannot read teamd's configuration: %w", err)
	case len(text) > teamdLimit:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is larger than 1 MiB: no configuration of teamd is", vmnetd.Printable(file))
	}
	conv, err := uplink.FromTeamd(file, text)
	if err != nil {
		return err
	}
	if a.json {
		conv.Differs = []string{}
		return a.printJSON(conv)
	}
	a.printConversion(conv)
	a.printf("\n")
	a.printHung("", "", "To have vmnetd run it: write it into vmnetd.yaml, then  vmnetd uplink plan.  A teamd that runs already is somebody else's until it is stopped.")
	return nil
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
			a.printHung("", "", "Write it into vmnetd.yaml in place of "+conv.From+", under "+conv.Anchor+" too: the next  vmnetd uplink apply  goes by the file.")
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
