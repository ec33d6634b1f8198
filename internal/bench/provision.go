package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/failover"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// The host that is provisioned: half of its uplinks are bonds, half teams.
const (
	uplinkCount    = 8
	portsPerUplink = 4
)

// provisioned is that host after an apply.
type provisioned struct {
	s        *scope
	program  string
	host     *testkit.Netns
	switches *testkit.Netns
	daemon   *testkit.Daemon
	client   *dbusapi.Client
	// properties is those of benchTeam as org.vmnetd1.Team has them.
	properties func(context.Context) (map[string]any, error)
}

// benchTeam is the team that is asked about.
const benchTeam = "benchteam1"

func teamName(i int) string { return fmt.Sprintf("benchteam%d", i) }

func benchPort(uplink, n int) string { return fmt.Sprintf("p%d-%d", uplink, n) }

// provisionConfig declares the uplinks.
func provisionConfig() string {
	var b strings.Builder
	b.WriteString("uplinks:\n")
	for i := range uplinkCount {
		var ports []string
		for n := range portsPerUplink {
			ports = append(ports, benchPort(i, n))
		}
		list := strings.Join(ports, ", ")
		if i%2 == 0 {
			fmt.Fprintf(&b, "  - {name: bond%d, bond: {mode: active-backup, miimon: 100, ports: [%s]}}\n", i, list)
		} else {
			fmt.Fprintf(&b, "  - {name: %s, team: {runner: {name: activebackup}, ports: [%s]}}\n", teamName(i), list)
		}
	}
	return b.String()
}

func newProvisioned(s *scope, program string) *provisioned {
	p := &provisioned{s: s, program: program, host: testkit.NewNetns(s), switches: testkit.NewNetns(s)}
	for i := range uplinkCount {
		for n := range portsPerUplink {
			testkit.NewVeth(s, p.host, benchPort(i, n), p.switches, benchPort(i, n))
		}
		if i%2 == 1 {
			s.Cleanup(func() { testkit.EndTeamd(teamName(i)) })
		}
	}
	p.daemon, p.client = failover.Serve(s, program, p.host, provisionConfig())
	_, err := p.client.Apply(s.ctx, vmnetd.ApplyOptions{NoConfirm: true})
	s.must(err)
	conn, err := bus.Dial(s.ctx, "", slog.New(slog.DiscardHandler))
	s.must(err)
	s.Cleanup(func() { _ = conn.Close() })
	p.properties = func(ctx context.Context) (all map[string]any, err error) {
		err = conn.Object("org.vmnetd1", "/org/vmnetd1/uplink/"+benchTeam).
			CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, "org.vmnetd1.Team").Store(&all)
		return all, err
	}
	return p
}

// provisionSection measures, and is a part of the page.
func provisionSection(s *scope, program string, rounds int) string {
	mine := s.inner()
	defer mine.close()
	say("%d uplinks with %d ports each are made", uplinkCount, portsPerUplink)
	h := newProvisioned(mine, program)
	var b bytes.Buffer
	p := page{&b}
	p.line("## Provisioning")
	p.line("")
	p.line("%d uplinks with %d ports each, one half active-backup bonds, the other half activebackup teams, applied, with nothing to do; in the VM. Milliseconds of %d.",
		uplinkCount, portsPerUplink, rounds)
	p.line("")
	p.row("", "median (90th percentile)")
	p.row("---", "---:")
	var dbusTeam, teamdctl series
	for _, q := range h.questions() {
		say("%s, %d rounds", q.name, rounds)
		all := mine.repeat(rounds, q.ask)
		p.row(q.name, times(all))
		switch q.name {
		case askTeamProperties:
			dbusTeam = all
		case askTeamdctl:
			teamdctl = all
		}
	}
	p.line("")
	p.row("aim", "", "")
	p.row("---", "---", "---")
	p.row("`Team` by D-Bus not slower than `teamdctl`", ms(dbusTeam.median())+" against "+ms(teamdctl.median())+" ms", aim{met: dbusTeam.median() <= teamdctl.median()}.verdict())
	p.line("")
	h.events(p)
	return b.String()
}

// repeat measures one thing, after warmUp rounds that are not counted.
func (s *scope) repeat(rounds int, ask func(context.Context) (time.Duration, error)) (all series) {
	for round := range warmUp + rounds {
		took, err := ask(s.ctx)
		s.must(err)
		if round >= warmUp {
			all = append(all, took)
		}
	}
	return all
}

const (
	askTeamProperties = "`Team`: all properties of `org.vmnetd1.Team` by D-Bus, connection open"
	askTeamdctl       = "`teamdctl TEAM state dump`, whole process"
)

// question is something that is asked and changes nothing.
type question struct {
	name string
	ask  func(context.Context) (time.Duration, error)
}

func (h *provisioned) questions() []question {
	command := func(name string, args ...string) func(context.Context) (time.Duration, error) {
		return func(ctx context.Context) (time.Duration, error) { return timed(ctx, name, args...) }
	}
	return []question{
		{"`plan` by D-Bus, connection open", h.plan},
		{"`vmnetd uplink plan`, whole process", command(h.program, "uplink", "plan")},
		{"`apply` by D-Bus, connection open", h.apply},
		{"`vmnetd uplink apply --no-confirm`, whole process", command(h.program, "uplink", "apply", "--no-confirm")},
		{askTeamProperties, h.team},
		{"`vmnetd team state TEAM`, whole process", command(h.program, "team", "state", benchTeam)},
		{askTeamdctl, h.teamdctl},
		{"`vmnetd version`, whole process: what a start of the program costs", command(h.program, "version")},
	}
}

func (h *provisioned) plan(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	p, err := h.client.Plan(ctx, nil)
	took := time.Since(began)
	if err == nil && len(p.Changes) > 0 {
		err = fmt.Errorf("the plan has changes: %+v", p.Changes)
	}
	return took, err
}

func (h *provisioned) apply(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	_, err := h.client.Apply(ctx, vmnetd.ApplyOptions{NoConfirm: true})
	return time.Since(began), err
}

func (h *provisioned) team(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	port, err := h.active(ctx)
	took := time.Since(began)
	if err == nil && port == "" {
		err = fmt.Errorf("%s has no active port", benchTeam)
	}
	return took, err
}

// active is the active port, as vmnetd last said it.
func (h *provisioned) active(ctx context.Context) (string, error) {
	all, err := h.properties(ctx)
	port, _ := all["active_port"].(string)
	return port, err
}

// flood is how many link messages the kernel sends in a row.
const flood = 10000

// events is how many link messages a second the daemon works off, and how late it
// is after a flood of them.
func (h *provisioned) events(p page) {
	say("%d link messages of a port of a bond, and of a device that is nobody's", flood)
	h.host.Create(h.s, rtnl.NewLink{Name: "other", Kind: "dummy"})
	p.line("%d link messages in a row, each a change of a device's alias: by how much CPU time of the daemon they cost, how many it can work off in a second on one core.", flood)
	p.line("Late: from a failure of a team's active port right after them to the property that names the new one, teamd's own time included; and without a flood.")
	p.line("")
	p.row("messages about", "sent per second", "worked off per second", "late after them, ms")
	p.row("---", "---:", "---:", "---:")
	p.row("nothing", "-", "-", ms(h.late()))
	for _, device := range []struct{ name, words string }{{"other", "a device that is no uplink's"}, {benchPort(0, 0), "a port of a bond"}} {
		before, err := cpuTicks(h.daemon.PID)
		h.s.must(err)
		took := h.send(device.name)
		late := h.late()
		h.s.must(pause(h.s.ctx, time.Second)) // what is left to do, also to the garbage collector
		after, err := cpuTicks(h.daemon.PID)
		h.s.must(err)
		rate := "more than can be measured"
		if after > before {
			rate = fmt.Sprint(flood * 100 / (after - before))
		}
		p.row(device.words, fmt.Sprintf("%.0f", flood/took.Seconds()), rate, ms(late))
	}
}

// send has the kernel send the messages.
func (h *provisioned) send(device string) time.Duration {
	index := h.host.Link(h.s, device).Index
	began := time.Now()
	for i := range flood {
		h.s.must(h.host.Conn().Set(h.s.ctx, rtnl.Change{Index: index, Attrs: []rtnl.Attr{rtnl.Alias(fmt.Sprint("flood ", i%2))}}))
	}
	return time.Since(began)
}

// late is how long after the failure of a team's active port its new one is the
// property's value.
func (h *provisioned) late() time.Duration {
	port, err := h.active(h.s.ctx)
	h.s.must(err)
	began := time.Now()
	h.switches.SetDown(h.s, port)
	for now := port; now == port || now == ""; {
		if now, err = h.active(h.s.ctx); time.Since(began) > testkit.Patience {
			h.s.Fatalf("%s has no new active port", benchTeam)
		}
		h.s.must(err)
	}
	took := time.Since(began)
	h.switches.SetUp(h.s, port)
	h.host.WaitRunning(h.s, port)
	return took
}

// teamdctl looks for the device in its own namespace.
func (h *provisioned) teamdctl(ctx context.Context) (took time.Duration, err error) {
	err = h.host.Do(func() error {
		took, err = timed(ctx, "teamdctl", benchTeam, "state", "dump")
		return err
	})
	return took, err
}
