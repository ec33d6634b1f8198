package main

import "github.com/spf13/cobra"

const rootHelp = `vmnetd gives VMs their network cards. It decides by rules which VM gets which
network, makes the device, hands it to the running QEMU, repairs it when the
host changes, and says why.`

// helpTemplate is shorter than cobra's own: what it does, how to call it,
// examples, commands, flags.
const helpTemplate = `{{with or .Long .Short}}{{.}}

{{end}}Usage: {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}
{{- end}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- end}}

Flags:
{{.Flags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}
{{- if and .HasAvailableSubCommands (not .HasParent)}}

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 denied, 4 not found,
5 the host's state forbids it, 6 daemon not reachable, 125 exec failed before
QEMU ran, 130 interrupted.
{{- end}}
`

func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		Args:  takes(nil, "COMMAND", "COMMAND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			if err != nil || target == nil {
				return unknownCommand(cmd.Root(), args[0])
			}
			if len(rest) > 0 && target.HasSubCommands() {
				return unknownCommand(target, rest[0])
			}
			if target.DisableFlagParsing { // a command of a later version
				return target.RunE(target, nil)
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}
