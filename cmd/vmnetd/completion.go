package main

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

// completionTime is how long a shell waits for the daemon at most.
const completionTime = time.Second

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash | zsh | fish",
		Short: "Print the completion script of a shell",
		Example: `  vmnetd completion bash > /etc/bash_completion.d/vmnetd
  source <(vmnetd completion zsh)`,
		Args:      takes([]string{"the name of a shell: bash, zsh or fish"}),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.io.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.io.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.io.out, true)
			}
			return usage(cmd, "no completion for %q: bash, zsh and fish there are", args[0])
		},
	}
}

// names gets words from the daemon for the VM in args (none typed yet: "").
type names func(ctx context.Context, c client, vm string) ([]string, error)

// completion asks the daemon and is silent when it does not answer.
func (a *app) completion(get names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		vm := ""
		if len(args) > 0 {
			vm = args[0]
		}
		var words []string
		_ = a.with(ctx, func(c client) (err error) {
			words, err = get(ctx, c, vm)
			return err
		})
		slices.Sort(words)
		return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeFlag(cmd *cobra.Command, flag string, get names) {
	// it fails only for a flag that is not there or was registered already
	if err := cmd.RegisterFlagCompletionFunc(flag, a.completion(get)); err != nil {
		panic(err)
	}
}

// completeRequestFlags completes what the command has of the request's flags.
func (a *app) completeRequestFlags(cmd *cobra.Command) {
	for flag, get := range map[string]names{"network": a.networks, "uplink": a.uplinks, "mode": modeNames, "queues": queueNames, "id": a.ids, "handover": handoverNames} {
		if cmd.Flags().Lookup(flag) != nil {
			a.completeFlag(cmd, flag, get)
		}
	}
	for flag, words := range map[string]func() []string{"via": a.ways, "ip": noWords, "name": noWords, "route": noWords} {
		completeAlone(cmd, flag, words)
	}
}

// completeAlone completes a flag by words that no daemon has to be asked for.
func completeAlone(cmd *cobra.Command, flag string, words func() []string) {
	if cmd.Flags().Lookup(flag) == nil {
		return
	}
	err := cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil { // as in completeFlag
		panic(err)
	}
}

func noWords() []string { return nil }

// ways are the words of --via, with the namespaces that ip netns knows.
func (a *app) ways() []string {
	words := []string{"libvirt", "qmp"}
	entries, _ := os.ReadDir(a.netns) // no folder: no namespaces
	for _, e := range entries {
		words = append(words, vmnetd.ViaNetns(e.Name()))
	}
	return words
}

// completeFirst completes the first argument, and there is no second.
func (a *app) completeFirst(get names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completion(get)(cmd, args, word)
	}
}

func (a *app) completeVM(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completion(vmNames)(cmd, args, word)
}

// completeVMNetwork completes "VM [NETWORK]".
func (a *app) completeVMNetwork(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return a.completion(a.networks)(cmd, args, word)
	}
	return a.completeVM(cmd, args, word)
}

func (a *app) completeNIC(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completion(nicNames)(cmd, args, word)
}

func vmNames(ctx context.Context, c client, _ string) ([]string, error) {
	return c.VMs(ctx)
}

func nicNames(ctx context.Context, c client, _ string) ([]string, error) {
	return of(ctx, c, "", vmnetd.Attachment.FullName)
}

func (a *app) ids(ctx context.Context, c client, vm string) ([]string, error) {
	return of(ctx, c, vm, func(one vmnetd.Attachment) string { return one.ID })
}

func of(ctx context.Context, c client, vm string, name func(vmnetd.Attachment) string) ([]string, error) {
	all, err := c.List(ctx, vm)
	var words []string
	for _, one := range all {
		words = append(words, name(one))
	}
	return words, err
}

func (a *app) uplinks(ctx context.Context, c client, _ string) ([]string, error) {
	all, err := c.Uplinks(ctx)
	return namesOf(all, func(vmnetd.UplinkState) bool { return true }), err
}

func namesOf(all []vmnetd.UplinkState, is func(vmnetd.UplinkState) bool) []string {
	var words []string
	for _, u := range all {
		if is(u) {
			words = append(words, u.Name)
		}
	}
	return words
}

// networks are those open to the VM, or in use when none is typed yet.
func (a *app) networks(ctx context.Context, c client, vm string) ([]string, error) {
	if vm == "" {
		return of(ctx, c, "", func(one vmnetd.Attachment) string { return one.Network })
	}
	all, err := c.Explain(ctx, vmnetd.Request{VM: vm}, true)
	denied := vmnetd.ClassOf(vmnetd.ErrDenied).Exit
	var words []string
	for _, e := range all {
		if e.Network != "" && (e.Granted || e.ExitCode != denied) {
			words = append(words, e.Network)
		}
	}
	return words, err
}

func modeNames(context.Context, client, string) ([]string, error)  { return vmnetd.ModeNames(), nil }
func queueNames(context.Context, client, string) ([]string, error) { return []string{"auto"}, nil }
func handoverNames(context.Context, client, string) ([]string, error) {
	return []string{"fd", "name"}, nil
}
