package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vmnetd/vmnetd"
)

// laterVerbs are commands of the contract that no code makes work yet: refused
// by name, so that nobody takes them for a typing mistake.
var laterVerbs = []string{"host-link", "topology"}

// laterAttachFlags are flags of the contract that no code makes work yet.
var laterAttachFlags = []string{"ip"}

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

// addLaterFlags makes fs know and refuse flags.
func addLaterFlags(fs *pflag.FlagSet, names []string) {
	for _, name := range names {
		f := fs.VarPF(laterFlag(name), name, "", "not in this version")
		f.Hidden = true
		f.NoOptDefVal = "true" // refused with and without a value
	}
}

// laterFlag is the value of a flag that is refused; it holds the flag's name.
type laterFlag string

func (f laterFlag) String() string   { return "" }
func (f laterFlag) Type() string     { return "" }
func (f laterFlag) Set(string) error { return notYet("--" + string(f)) }
