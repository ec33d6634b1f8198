package main

import (
	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

// laterVerbs are commands of the contract that no code makes work yet: refused
// by name, so that nobody takes them for a typing mistake.
var laterVerbs = []string{"topology"}

func notYet(what string) error {
	return vmnetd.Errorf(vmnetd.ErrInvalid, "%s: not in this version", what).WithNext("vmnetd --help lists what is")
}

func laterCommands() []*cobra.Command {
	var cmds []*cobra.Command
	for _, verb := range laterVerbs {
		cmds = append(cmds, &cobra.Command{
			Use:                verb,
			Hidden:             true,
			DisableFlagParsing: true,
			RunE:               func(*cobra.Command, []string) error { return notYet("vmnetd " + verb) },
		})
	}
	return cmds
}
