package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) watchCommand() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show what happens, as it happens",
		Long: `Prints a line for each event until it is stopped (Ctrl-C, exit code 0). With
--since what happened before comes first; with --json each line is an object.`,
		Example: `  vmnetd watch
  vmnetd watch --since 24h --json`,
		Args: takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ago, err := parseAgo(since)
			if err != nil {
				return err
			}
			return a.watch(cmd.Context(), ago)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "begin `TIME` ago: 90s, 30m, 24h, 7d")
	return cmd
}

func parseAgo(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	return parseSpan("--since", s)
}

// parseSpan reads a length of time; days are what operators think in, and what
// time.ParseDuration does not know.
func parseSpan(flag, s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, vmnetd.Errorf(vmnetd.ErrInvalid, "%s %q is no length of time", flag, s).WithNext(fmt.Sprintf("for example %s 30m, %s 24h, %s 7d", flag, flag, flag))
	}
	return d, nil
}

// watch has no other end than being stopped, so that is no failure.
func (a *app) watch(ctx context.Context, ago time.Duration) error {
	err := a.with(ctx, func(c client) error {
		if ago > 0 {
			return c.WatchSince(ctx, a.now().Add(-ago), a.printEvent)
		}
		return c.Watch(ctx, a.printEvent)
	})
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		return nil
	}
	return err
}

func (a *app) printEvent(e vmnetd.Event) {
	if a.json {
		_ = encodeJSON(a.io.out, e, "") // a closed pipe ends the process by SIGPIPE
		return
	}
	when := e.Time.Local().Format("15:04:05")
	if a.now().Sub(e.Time) > 24*time.Hour || e.Time.Local().YearDay() != a.now().Local().YearDay() {
		when = e.Time.Local().Format("2006-01-02 15:04:05")
	}
	about := e.Uplink
	if e.VM != "" {
		about = strings.TrimSuffix(vmnetd.FullName(e.VM, e.ID), "/")
	}
	line := when + "  " + a.paintEvent(e.Event)
	for _, part := range []string{about, e.Text} {
		if part != "" {
			line += "  " + vmnetd.Printable(part)
		}
	}
	a.printf("%s\n", line)
}

// paintEvent makes bad news stand out.
func (a *app) paintEvent(event string) string {
	event = vmnetd.Printable(event)
	for _, bad := range []string{"broken", "denied", "lost", "fail"} {
		if strings.Contains(event, bad) {
			return a.io.paint(red, event)
		}
	}
	return event
}
