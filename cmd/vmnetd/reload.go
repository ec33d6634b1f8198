package main

import "github.com/spf13/cobra"

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its configuration again",
		Long: `Makes the daemon read its configuration again. A configuration with mistakes is
refused and the running one kept. NICs that are attached stay as they are.`,
		Example: `  vmnetd check && vmnetd reload`,
		Args:    takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c client) error {
				if err := c.Reload(cmd.Context()); err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]bool{"reloaded": true})
				}
				a.printf("reloaded; attached NICs stay as they are\n")
				return nil
			})
		},
	}
}
