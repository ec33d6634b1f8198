package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failover"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const twoSwitches = `
        peer
          |
          C
         / \
        A   B        three switches
        |   |
       pa   pb       ports of the host
`

const redundant = `uplinks:
  - name: team0
    team: {runner: {name: activebackup}, link_watch: {name: ethtool}, ports: [pa, pb]}
  - {name: wan, anchor: {over: [team0]}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
hypervisors: {libvirt: {uri: none}, qmp: {sockets: ["%s/{vm}.sock"]}}
`

// often is how often the peer pings each guest, noticed how long a guest may be
// out of reach before it counts as lost for good, and settling how many more
// pings are looked at once all guests answer again.
const (
	often    = 20 * time.Millisecond
	noticed  = 5 * time.Second
	settling = 50
)

// redundancy is the stage of the failover demo.
type redundancy struct {
	*stage
	scope *scope
	net   *testkit.Switches
	pings *testkit.Pings
	lost  losses
}

// playFailover is the second demo: it needs a kernel with bond and team, and
// saved guests (testkit.SaveGuest), and runs in a VM of its own.
func playFailover(ctx context.Context, s *scope, show *report, program string) error {
	r := &redundancy{stage: &stage{program: program, dir: s.TempDir(), show: show}, scope: s}
	defer func() { show.after(r.lost.String()) }()
	if err := r.restore(ctx); err != nil {
		return err
	}
	withoutAnybody(show)
	r.build(ctx)
	acts := []func(context.Context, *report) error{
		r.actApply, r.actGuests, r.actFailover, r.actTeamd, r.actDaemon, r.actConvert,
	}
	for _, act := range acts {
		if err := act(ctx, show); err != nil {
			return err
		}
	}
	return nil
}

// withoutAnybody shows what there is to solve.
func withoutAnybody(show *report) {
	show.note("%s", "first a guest that says nothing, on a team over two switches, and nobody cares")
	show.quote(twoSwitches)
	_ = show.check("without vmnetd a silent guest is lost after a failover", func() error {
		mine := newScope()
		defer mine.close(cleanLimit)
		for _, r := range failover.Measure(mine, failover.Case{
			Uplink: failover.Team, Guests: 1, Who: failover.Nobody{}, Failures: []testkit.Failure{testkit.SwitchDown}, Patience: noticed,
		}) {
			if _, _, ended := r.Outage(); ended {
				return errors.New("it was heard of again")
			}
		}
		return nil
	})
}

func (r *redundancy) build(ctx context.Context) {
	r.net = testkit.NewSwitches(r.scope)
	for _, port := range []string{testkit.PortA, testkit.PortB} {
		r.net.Host.SetUp(r.scope, port)
	}
	r.host = r.net.Host
	config := fmt.Sprintf(redundant, r.sockets())
	r.show.note("the same three switches, and a host with this configuration:")
	r.show.quote(config)
	if err := os.WriteFile(filepath.Join(r.dir, "vmnetd.yaml"), []byte(config), 0o600); err != nil {
		r.scope.Fatalf("%v", err)
	}
	r.bus = testkit.StartBus(r.scope)
	r.scope.Cleanup(func() {
		if r.daemon != nil {
			r.daemon.Kill()
		}
		testkit.EndTeamd("team0")
	})
	r.serve(ctx)
}

func (r *redundancy) serve(ctx context.Context) {
	daemon, err := testkit.StartDaemon(ctx, testkit.DaemonOptions{Program: r.program, Dir: r.dir, Bus: r.bus, Netns: r.host.Do})
	if err != nil {
		r.scope.Fatalf("%v", err)
	}
	r.daemon = daemon
}

func (r *redundancy) actApply(ctx context.Context, show *report) error {
	err := show.check("plan says what would be done, and what it costs", func() error {
		return r.expect(ctx, vmnetd.ExitOK, "uplink", "plan")
	})
	if err != nil {
		return err
	}
	return show.check("apply makes team and anchor", func() error {
		return r.expect(ctx, vmnetd.ExitOK, "uplink", "apply", "--no-confirm")
	})
}

// actGuests gives the guests NICs, and has them pinged from here on.
func (r *redundancy) actGuests(ctx context.Context, show *report) error {
	if err := show.check("two guests run, without a NIC", func() error { return r.waitRestored(ctx) }); err != nil {
		return err
	}
	return show.check("both get a NIC while they run, and answer the peer's pings", func() error {
		for _, g := range r.guests {
			if err := r.expect(ctx, vmnetd.ExitOK, "attach", g.Name, "--network", "lan"); err != nil {
				return err
			}
		}
		if err := r.introduceAll(ctx); err != nil {
			return err
		}
		if _, err := r.during("nothing happens", func() error { return nil }); err != nil {
			return err
		}
		return r.expect(ctx, vmnetd.ExitOK, "status")
	})
}

// during does something, waits until every guest answers again, and says what
// became of the pings.
func (r *redundancy) during(what string, do func() error) (worst testkit.PingCount, err error) {
	r.pings.Begin()
	if err := do(); err != nil {
		return worst, err
	}
	if !r.pings.Answered(1, noticed) || !r.pings.Answered(settling, noticed) {
		return worst, errors.New("not every guest answers")
	}
	row := loss{what: what, of: r.pings.Counts()}
	r.lost.add(row)
	for i, c := range row.of {
		r.show.note("%s: %d of %d pings lost, at most %v between two answers", r.guests[i].Name, c.Lost, c.Sent, c.Gap.Round(time.Millisecond))
		worst.Lost, worst.Gap = max(worst.Lost, c.Lost), max(worst.Gap, c.Gap)
	}
	return worst, nil
}

func (r *redundancy) actFailover(ctx context.Context, show *report) error {
	_ = show.check("with vmnetd they are back within a second", func() error {
		port, began := r.net.Active(r.scope, "team0"), time.Now()
		show.note("the cable of %s is pulled at the switch", port)
		worst, err := r.during("the port in use is pulled", func() error {
			r.net.Fail(r.scope, port, testkit.SwitchDown)
			return nil
		})
		if err == nil && worst.Gap > time.Second {
			err = errors.New("that is too long")
		}
		err = errors.Join(err, r.watch(ctx, began, "guests announced"), r.expect(ctx, vmnetd.ExitOK, "status"))
		show.note("the cable is plugged in again")
		r.net.Mend(r.scope, port, testkit.SwitchDown)
		return errors.Join(err, r.eventually(ctx, "the team does not use the port again", func() bool { return r.net.Usable(r.scope, "team0", port) }))
	})
	return nil
}

func (r *redundancy) actTeamd(ctx context.Context, show *report) error {
	_ = show.check("teamd is killed, and taken over within a second or two", func() error {
		old, began := testkit.TeamdPID("team0"), time.Now()
		show.note("kill -9 %d", old)
		_, err := r.during("teamd is killed", func() error {
			if err := unix.Kill(old, unix.SIGKILL); err != nil {
				return err
			}
			err := r.eventually(ctx, "it is not taken over", func() bool { pid := testkit.TeamdPID("team0"); return pid != 0 && pid != old })
			show.note("teamd runs again after %v", time.Since(began).Round(time.Millisecond))
			return errors.Join(err, r.watch(ctx, began, "taken over again"))
		})
		return err
	})
	return nil
}

func (r *redundancy) actDaemon(ctx context.Context, show *report) error {
	return show.check("vmnetd is killed and started again, and no guest notices", func() error {
		worst, err := r.during("vmnetd is killed and started again", func() error {
			show.note("kill -9 %d", r.daemon.PID)
			r.daemon.Kill()
			r.serve(ctx)
			return nil
		})
		if err == nil && worst.Lost > 0 {
			err = errors.New("that was noticed")
		}
		return errors.Join(err, r.expect(ctx, vmnetd.ExitOK, "list"))
	})
}

func (r *redundancy) actConvert(ctx context.Context, show *report) error {
	return show.check("the team becomes a bond under running guests", func() error {
		began := time.Now()
		_, err := r.during("the team becomes a bond", func() error {
			return r.expect(ctx, vmnetd.ExitOK, "convert", "team2bond", "team0", "--live")
		})
		if err != nil {
			return err
		}
		return errors.Join(
			r.watch(ctx, began, "-> bond0"),
			r.expect(ctx, vmnetd.ExitOK, "uplink", "confirm"), r.expect(ctx, vmnetd.ExitOK, "status"),
		)
	})
}

// eventually waits for something, or says why not.
func (r *redundancy) eventually(ctx context.Context, why string, is func() bool) error {
	for deadline := time.Now().Add(testkit.Patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return errors.New(why)
		}
	}
	return nil
}
