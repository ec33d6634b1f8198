package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) teamCommand() *cobra.Command {
	return group("team", "Look into a team, and change it for a time",
		`What teamdctl(8) does, for uplinks of kind team. What changes a team needs
--temporary: it changes what runs and not what is declared, and shows as drift
until "uplink apply" puts it right.`,
		a.teamListCommand(), a.teamStateCommand(), a.teamConfigCommand(), a.teamPortPresentCommand(),
		a.teamPortConfigCommand(), a.teamGetCommand(), a.teamSetCommand(), a.teamPortAddCommand(), a.teamPortRemoveCommand(),
	)
}

func (a *app) teamListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the uplinks that are teams",
		Example: `  vmnetd team list`,
		Args:    takes(nil),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.uplinkList(cmd.Context(), "team") },
	}
}

// askTeam is one verb on a team.
func (a *app) askTeam(ctx context.Context, team string, req vmnetd.TeamRequest) (answer string, err error) {
	err = a.with(ctx, func(c client) (err error) {
		answer, err = c.Team(ctx, team, req)
		return err
	})
	return answer, err
}

// printAnswer prints what a team answered: JSON readable for people, anything
// else as it is, and as a JSON string for programs.
func (a *app) printAnswer(answer string) error {
	var pretty bytes.Buffer
	if text := strings.TrimSpace(answer); strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		if json.Indent(&pretty, []byte(text), "", "  ") == nil {
			a.printf("%s\n", pretty.String())
			return nil
		}
	}
	if a.json {
		return a.printJSON(map[string]string{"value": answer})
	}
	a.printf("%s\n", printableLines(answer))
	return nil
}

// onlyTemporary refuses what would change a team for good: that is what the
// configuration is for.
func onlyTemporary(cmd *cobra.Command, temporary bool) error {
	if temporary {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrInvalid, "%s needs --temporary: it changes what runs, not what is declared", cmd.CommandPath()).
		WithNext("add --temporary, or write it into vmnetd.yaml and then  vmnetd uplink apply")
}

func addTemporary(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("temporary", false, "until the next uplink apply; shows as drift")
}

func (a *app) teams(ctx context.Context, c client, _ string) ([]string, error) {
	all, err := c.Uplinks(ctx)
	return namesOf(all, isTeam), err
}

func (a *app) bonds(ctx context.Context, c client, _ string) ([]string, error) {
	all, err := c.Uplinks(ctx)
	return namesOf(all, isBond), err
}

// completeTeamPort completes "TEAM PORT".
func (a *app) completeTeamPort(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return a.completion(a.members)(cmd, args, word)
	}
	return a.completeFirst(a.teams)(cmd, args, word)
}
