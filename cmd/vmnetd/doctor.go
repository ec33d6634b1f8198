package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what this host needs, and say what to do",
		Long: `Checks kernel, modules, device nodes, bus, daemon, configuration and VM sockets.
Exit code 1 when something fails; warnings alone are 0. Without the daemon it
checks what can be seen from outside.`,
		Args: takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
}

func (a *app) doctor(ctx context.Context) error {
	checks := a.examine(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if a.json {
		if err := a.printJSON(checks); err != nil {
			return err
		}
	} else {
		a.printChecks(checks)
	}
	if count(checks, vmnetd.LevelFail) > 0 {
		return &exitError{code: vmnetd.ClassOf(vmnetd.ErrFailed).Exit}
	}
	return nil
}

// examine asks the daemon, and where there is none looks for itself.
func (a *app) examine(ctx context.Context) []vmnetd.Check {
	checks := []vmnetd.Check{}
	err := a.with(ctx, func(c client) error {
		found, err := c.Doctor(ctx)
		checks = append(checks, found...)
		return err
	})
	if err == nil {
		return append(checks, vmnetd.Check{Level: vmnetd.LevelOK, Name: "daemon", Text: "runs and answers on the bus"})
	}
	checks = append(checks, daemonFailure(err))
	if errors.Is(err, vmnetd.ErrUnreachable) {
		checks = append(checks, a.local(ctx)...)
		checks = append(checks, checkConfig(defaultConfig))
	}
	return checks
}

func daemonFailure(err error) vmnetd.Check {
	return vmnetd.Check{Level: vmnetd.LevelFail, Name: "daemon", Text: err.Error(), Do: vmnetd.NextOf(err)}
}

// checkConfig is `check` as a line.
func checkConfig(file string) vmnetd.Check {
	_, err := checkFile(file)
	switch {
	case err == nil:
		return vmnetd.Check{Level: vmnetd.LevelOK, Name: "configuration", Text: file + " is good"}
	case errors.Is(err, os.ErrPermission):
		return vmnetd.Check{Level: vmnetd.LevelWarn, Name: "configuration", Text: err.Error(), Do: "run vmnetd doctor as root"}
	}
	return vmnetd.Check{Level: vmnetd.LevelFail, Name: "configuration", Text: err.Error(), Do: orElse(vmnetd.NextOf(err), "vmnetd check "+file)}
}

func (a *app) printChecks(checks []vmnetd.Check) {
	for _, c := range checks {
		level, color := "ok   ", green
		switch c.Level {
		case vmnetd.LevelWarn:
			level, color = "WARN ", yellow
		case vmnetd.LevelFail:
			level, color = "FAIL ", red
		}
		a.printIndented(a.io.paint(color, level)+" ", subject(c))
		if c.Do != "" {
			a.printIndented("      ", "do: "+c.Do)
		}
	}
	a.printf("\n%s\n", summary(count(checks, vmnetd.LevelWarn), count(checks, vmnetd.LevelFail)))
}

// printIndented wraps text behind a head six columns wide.
func (a *app) printIndented(head, text string) {
	width := 0
	if a.io.width > 6 {
		width = a.io.width - 6
	}
	for _, whole := range strings.Split(printableLines(text), "\n") {
		lines := []string{whole}
		if !strings.HasPrefix(whole, " ") { // an excerpt's caret stands below its character
			lines = wrap(whole, width)
		}
		for _, line := range lines {
			a.printf("%s%s\n", head, line)
			head = "      "
		}
	}
}

func count(checks []vmnetd.Check, level string) int {
	n := 0
	for _, c := range checks {
		if c.Level == level {
			n++
		}
	}
	return n
}

func summary(warnings, failures int) string {
	if failures > 0 {
		return plural(warnings, "warning") + ", " + plural(failures, "failure") + " (exit 1)"
	}
	if warnings > 0 {
		return plural(warnings, "warning") + ", no failure"
	}
	return "all is well"
}
