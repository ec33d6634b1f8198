package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) uplinkListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List all uplinks",
		Example: `  vmnetd uplink list
  vmnetd uplink list --json`,
		Args: takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.uplinkList(cmd.Context(), "") },
	}
}

// uplinkList lists the uplinks, or those that are a kind of thing: "team" or
// "bond", an anchor being one, too.
func (a *app) uplinkList(ctx context.Context, of string) error {
	return a.with(ctx, func(c client) error {
		all, err := c.Uplinks(ctx)
		if err != nil {
			return err
		}
		list := []vmnetd.UplinkState{}
		for _, u := range all {
			if of == "" || of == "team" && isTeam(u) || of == "bond" && isBond(u) {
				list = append(list, whole(u))
			}
		}
		if a.json {
			return a.printJSON(list)
		}
		if len(list) == 0 {
			a.printf("no %s is declared; see  man 5 vmnetd.yaml\n", orElse(of, "uplink"))
			return nil
		}
		a.printUplinks(list)
		a.printUplinkNotes(list)
		return nil
	})
}

func isTeam(u vmnetd.UplinkState) bool { return u.Kind == vmnetd.UplinkTeam || u.Team != nil }

func isBond(u vmnetd.UplinkState) bool {
	return u.Kind == vmnetd.UplinkBond || u.Kind == vmnetd.UplinkAnchor || u.Bond != nil
}

// whole makes empty lists [] in JSON, as the contract has them.
func whole(u vmnetd.UplinkState) vmnetd.UplinkState {
	u.Ports, u.Drift, u.Drained = append([]string{}, u.Ports...), append([]string{}, u.Drift...), append([]string{}, u.Drained...)
	return u
}

func (a *app) printUplinks(uplinks []vmnetd.UplinkState) {
	under := standsUnder(uplinks)
	t := table{columns: []column{
		{name: "UPLINK", flex: true}, {name: "KIND"}, {name: "STATE"}, {name: "PATH", flex: true},
		{name: "MTU", right: true}, {name: "GUESTS", right: true}, {name: "LAST CHANGE", flex: true},
	}}
	for _, u := range uplinks {
		guests := plainNumber(u.Guests)
		if under[u.Name] && u.Guests == 0 { // the guests are those of what stands on it
			guests = ""
		}
		t.add(u.Name, u.Kind, u.State, pathOf(u), number(u.MTU), guests, a.lastChange(u))
	}
	a.writeTable(&t)
}

// standsUnder is the uplinks that another one stands on.
func standsUnder(uplinks []vmnetd.UplinkState) map[string]bool {
	byDevice := map[string]string{}
	for _, u := range uplinks {
		byDevice[u.Ifname] = u.Name
	}
	under := map[string]bool{}
	for _, u := range uplinks {
		for _, port := range u.Ports {
			under[port] = true
			under[byDevice[port]] = true
		}
	}
	delete(under, "")
	return under
}

// pathOf is how frames reach the outside, and how many of the ports carry them.
func pathOf(u vmnetd.UplinkState) string {
	path := u.Path
	if path == "" && u.Ifname != u.Name {
		path = u.Ifname
	}
	if up, of := portsUp(u); u.State == vmnetd.StateDegraded && of > 0 && up < of {
		path = strings.TrimSpace(path + " (" + plainNumber(up) + " of " + plainNumber(of) + ")")
	}
	return path
}

// portsUp counts the ports with link, of all that are declared or there.
func portsUp(u vmnetd.UplinkState) (up, of int) {
	seen := 0
	if u.Team != nil {
		seen = len(u.Team.Ports)
		for _, p := range u.Team.Ports {
			if p.Link {
				up++
			}
		}
	} else if u.Bond != nil {
		seen = len(u.Bond.Ports)
		for _, p := range u.Bond.Ports {
			if p.MII == "up" {
				up++
			}
		}
	}
	return up, max(seen, len(u.Ports))
}

// lastChange is "02:13:07 failover eno2 -> eno1".
func (a *app) lastChange(u vmnetd.UplinkState) string {
	if u.Since.IsZero() {
		return ""
	}
	return strings.TrimSpace(a.clock(u.Since) + " " + u.Last)
}
