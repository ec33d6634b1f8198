package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
)

// app is what the commands share. Tests replace its functions.
type app struct {
	io    stdio
	json  bool
	dial  func(ctx context.Context) (client, error)
	exec  func(path string, argv, env []string) error // replaces the process
	now   func() time.Time
	after func(d time.Duration) <-chan time.Time   // time.After
	local func(ctx context.Context) []vmnetd.Check // doctor without the daemon

	netns     string                                          // folder of ip netns
	systemd   func() bool                                     // whether it runs this host
	systemctl func(ctx context.Context, args ...string) error // runs it

	// asked is what the daemon goes on with when the command is interrupted,
	// "" when nothing was asked of it; seeBy is what shows how far it is.
	asked, seeBy string
	undoneAt     string // when the apply that the command waits for is undone
}

func newApp(io stdio) *app {
	return &app{io: io, dial: dialDaemon, exec: syscall.Exec, now: time.Now, after: time.After, local: localChecks, netns: netnsFolder, systemd: bus.SystemdRuns, systemctl: systemctl}
}

func (a *app) run(ctx context.Context, args []string) int {
	out := &output{w: a.io.out}
	a.io.out = out
	if h, ok := hookArguments(args); ok {
		return a.hookRun(ctx, h)
	}
	args = append([]string{}, args...) // cobra takes nil for "the arguments of the process"
	a.json = wantsJSON(args)
	root := a.root()
	root.SetArgs(args)
	err := checkVerb(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil && out.err != nil {
		err = vmnetd.Errorf(vmnetd.ErrFailed, "cannot write what there is to say: %w", out.err)
	}
	return a.finish(ctx, err)
}

// root is the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "vmnetd",
		Short:         "Network cards for virtual machines: which VM gets which, and why",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	askedVersion := root.Flags().Bool("version", false, "as the command version")
	_ = root.Flags().MarkHidden("version")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *askedVersion {
			return a.printVersion()
		}
		return cmd.Help()
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().Bool("json", a.json, "print JSON, errors too")
	root.PersistentFlags().BoolP("help", "h", false, "show this help")
	root.SetIn(a.io.in)
	root.SetOut(a.io.out)
	root.SetErr(a.io.err)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(helpTemplate)
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(
		a.attachCommand(), a.detachCommand(), a.listCommand(), a.showCommand(), a.explainCommand(),
		a.execCommand(), a.tapHelperCommand(), a.statusCommand(), a.watchCommand(), a.doctorCommand(),
		a.serveCommand(), a.checkCommand(), a.reloadCommand(), a.versionCommand(), a.completionCommand(),
	)
	root.AddCommand(a.xmlCommand(), a.importCommand(), a.hookCommand(), a.hostLinkCommand(), a.metricsCommand())
	root.AddCommand(a.uplinkCommand(), a.teamCommand(), a.bondCommand(), a.convertCommand())
	root.AddCommand(a.roomCommand())
	root.AddCommand(laterCommands()...)
	return root
}

// checkVerb says "unknown command" before flags are looked at, which the
// unknown command may well have.
func checkVerb(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	root.InitDefaultHelpCmd()
	found, rest, err := root.Find(args)
	if err == nil && !found.HasSubCommands() {
		return nil
	}
	for _, arg := range rest {
		if !strings.HasPrefix(arg, "-") {
			return unknownCommand(found, arg)
		}
	}
	return nil
}

// wantsJSON looks for --json before flags are parsed: errors of parsing are
// JSON too.
func wantsJSON(args []string) bool {
	want := false
	for _, arg := range args {
		switch arg {
		case "--":
			return want
		case "--json", "--json=true", "--json=1":
			want = true
		case "--json=false", "--json=0":
			want = false
		}
	}
	return want
}

// with connects to the daemon for the time of do.
func (a *app) with(ctx context.Context, do func(client) error) error {
	c, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

// systemctl runs systemctl(1); what it says on standard error is the error.
func systemctl(ctx context.Context, args ...string) error {
	said, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if text := strings.TrimSpace(string(said)); err != nil && text != "" {
		return errors.New(text)
	}
	return err
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.io.out, format, args...) }

// printJSON prints v for a program, readable for people too.
func (a *app) printJSON(v any) error { return encodeJSON(a.io.out, v, "  ") }

func encodeJSON(w io.Writer, v any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // "<" in a sentence stays "<"
	enc.SetIndent("", indent)
	return enc.Encode(v)
}
