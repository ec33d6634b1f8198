package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) statusCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is wrong, then uplinks and NICs",
		Example: `  vmnetd status
  vmnetd status --check || mail -s "vmnetd on $(hostname)" ops@example.org`,
		Args: takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.status(cmd.Context(), check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "problems only, a line each; exit 1 when there is a failure")
	return cmd
}

func (a *app) status(ctx context.Context, check bool) error {
	return a.with(ctx, func(c client) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		s.Problems = append([]vmnetd.Check{}, s.Problems...)
		s.Uplinks = append([]vmnetd.UplinkState{}, s.Uplinks...)
		s.Attachments = allListed(s.Attachments)
		sortNICs(s.Attachments)
		if check {
			return a.statusCheck(s.Problems)
		}
		if a.json {
			return a.printJSON(s)
		}
		a.printStatus(s)
		return nil
	})
}

// statusCheck fails on failures. A warning, such as a network that this host
// does not have, must not keep a monitor alarmed for good.
func (a *app) statusCheck(found []vmnetd.Check) error {
	if a.json {
		if err := a.printJSON(found); err != nil {
			return err
		}
	} else {
		for _, p := range found {
			a.printf("%s  %s\n", strings.ToUpper(p.Level), vmnetd.Printable(firstLine(subject(p))))
		}
	}
	if count(found, vmnetd.LevelFail) > 0 {
		return &exitError{code: vmnetd.ClassOf(vmnetd.ErrFailed).Exit}
	}
	return nil
}

// subject is a check's text, begun with what it is about. A NIC's begins with
// its phase, which says something only where it is not attached.
func subject(c vmnetd.Check) string {
	text := strings.TrimPrefix(c.Text, string(vmnetd.Attached)+": ")
	if c.Name == "" || strings.HasPrefix(text, c.Name) {
		return text
	}
	return c.Name + ": " + text
}

// firstLine is for places that have one: a configuration's mistakes are many.
func firstLine(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more {
		line += " …"
	}
	return line
}

func (a *app) printStatus(s vmnetd.Status) {
	a.printf("%s  vmnetd %s, up %s; %s\n", a.io.paint(bold, vmnetd.Printable(s.Host)), vmnetd.Printable(s.Version), span(a.now().Sub(s.Since)), a.applyState(s))
	if len(s.Problems) > 0 {
		a.printf("\n")
	}
	for _, p := range s.Problems {
		a.printProblem(p)
	}
	if len(s.Uplinks) > 0 {
		a.printf("\n")
		a.printUplinks(s.Uplinks)
		a.printUplinkNotes(s.Uplinks)
	}
	a.printf("\n")
	if len(s.Attachments) == 0 {
		a.printf("no VM has a NIC of ours; to attach one:  vmnetd attach VM\n")
	} else {
		a.printNICs(s.Attachments)
	}
	if last := lastAnnounced(s.Uplinks); last != nil {
		a.printf("\n%s\n", vmnetd.Printable(a.announcedLine(*last)))
	}
}

// applyState is what runs: uplinks as they were applied, and where none needs
// that the configuration as it was accepted.
func (a *app) applyState(s vmnetd.Status) string {
	const minute = "2006-01-02 15:04"
	switch {
	case s.Pending != nil:
		return "applied, undone at " + a.clock(s.Pending.Until) + " unless you type  vmnetd uplink confirm"
	case s.Never:
		return "nothing applied yet: vmnetd uplink plan"
	case !s.Applied.IsZero():
		return "applied " + s.Applied.Local().Format(minute) + " and confirmed"
	case s.Accepted.IsZero():
		return "no configuration was accepted yet"
	}
	return fmt.Sprintf("%s accepted %s", vmnetd.Printable(orElse(s.Config, "configuration")), s.Accepted.Local().Format(minute))
}

func (a *app) printProblem(p vmnetd.Check) {
	lines := strings.Split(printableLines(subject(p)), "\n") // a configuration's mistakes have several
	a.printf("%s\n", a.problem(p.Level, lines[0]))
	for _, line := range lines[1:] {
		a.printf("  %s\n", line)
	}
	if p.Do != "" {
		a.printf("  next: %s\n", vmnetd.Printable(p.Do))
	}
}

func (a *app) printNICs(nics []vmnetd.Attachment) {
	t := table{columns: []column{
		{name: "VM", flex: true}, {name: "NIC", flex: true}, {name: "NETWORK", flex: true}, {name: "MODE"},
		{name: "ON", flex: true}, {name: "QUEUES", right: true}, {name: "STATE"},
	}}
	for _, one := range nics {
		t.add(one.VM, one.ID, one.Network, one.Device(), onUplink(one), number(one.Queues), stateOf(one))
	}
	a.writeTable(&t)
}

// span is a length of time as people say it: "12 d", "5 h 41 min", "3 s".
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d", int(d.Hours())/24)
}
