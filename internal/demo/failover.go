package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
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
`

// silent is how many guests hear a stream each and never say a word, and often
// is how often each is sent a frame.
const (
	silent  = 10
	often   = 10 * time.Millisecond
	noticed = 5 * time.Second // an outage that is longer has no end
)

// redundancy is the stage of the failover demo.
type redundancy struct {
	*stage
	scope  *scope
	net    *testkit.Switches
	guests []testkit.FrameGuest
	stream *testkit.Stream
}

// playFailover is the second demo: it needs a kernel with bond and team, and
// runs in a VM of its own.
func playFailover(ctx context.Context, s *scope, show *report, program string) error {
	withoutAnybody(show)
	r := &redundancy{stage: &stage{program: program, dir: s.TempDir(), show: show}, scope: s}
	r.build(ctx)
	acts := []func(context.Context, *report) error{r.actApply, r.actGuests, r.actFailover, r.actTeamd, r.actDaemon, r.actConvert}
	for _, act := range acts {
		if err := act(ctx, show); err != nil {
			return err
		}
	}
	return nil
}

// withoutAnybody shows what there is to solve.
func withoutAnybody(show *report) {
	show.note("%s", "a guest that says nothing, on a team over two switches; nobody cares")
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
	r.show.note("the same two switches, and a host with this configuration:")
	r.show.quote(redundant)
	if err := os.WriteFile(filepath.Join(r.dir, "vmnetd.yaml"), []byte(redundant), 0o600); err != nil {
		r.scope.Fatalf("%v", err)
	}
	r.bus = testkit.StartBus(r.scope)
	r.scope.Cleanup(func() {
		if r.daemon != nil {
			r.daemon.Kill()
		}
		if pid := r.teamd(); pid != 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
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

// actGuests attaches guests that hear, and never speak again after the switches
// have learned where they are.
func (r *redundancy) actGuests(ctx context.Context, show *report) error {
	return show.check(fmt.Sprintf("%d silent guests each hear a frame every %v", silent, often), func() error {
		if err := os.Setenv("DBUS_SYSTEM_BUS_ADDRESS", r.bus); err != nil {
			return err
		}
		c, err := dbusapi.Dial(ctx)
		if err != nil {
			return err
		}
		r.scope.Cleanup(func() { _ = c.Close() })
		for i := range silent {
			_, set, err := c.OpenTap(ctx, vmnetd.Request{VM: "vm" + strconv.Itoa(i+1), ID: "net0", MAC: testkit.FrameGuestMAC(i).String(), Queues: 1, NoVHost: true}, 0)
			if err != nil {
				return err
			}
			r.scope.Cleanup(func() { _ = set.Close() })
			g := testkit.FrameGuest{MAC: testkit.FrameGuestMAC(i), FD: set.Queues[0]}
			g.Speak(r.scope)
			r.guests = append(r.guests, g)
		}
		r.stream = testkit.StartStream(r.scope, r.net.Peer, "peer0", r.guests, often)
		r.scope.Cleanup(r.stream.Stop)
		if !r.stream.Everybody(testkit.Patience) {
			return errors.New("the stream does not reach everybody")
		}
		return r.expect(ctx, vmnetd.ExitOK, "status")
	})
}

// outage does something and says how long guests were out of reach.
func (r *redundancy) outage(do func() error) (time.Duration, error) {
	r.stream.Arm()
	if err := do(); err != nil {
		return 0, err
	}
	r.stream.Mark()
	if !r.stream.Everybody(noticed) {
		return 0, errors.New("not every guest is reached again")
	}
	worst := time.Duration(0)
	for _, o := range r.stream.Outages() {
		worst = max(worst, o.Gap)
	}
	return worst, nil
}

func (r *redundancy) actFailover(ctx context.Context, show *report) error {
	_ = show.check("with vmnetd they are back within a second", func() error {
		port := r.net.Active(r.scope, "team0")
		show.note("switch port of %s goes down", port)
		worst, err := r.outage(func() error {
			r.net.Fail(r.scope, port, testkit.SwitchDown)
			return nil
		})
		show.note("the guest that waited longest was out of reach for %v", worst.Round(time.Millisecond))
		if err == nil && worst > time.Second {
			err = errors.New("that is too long")
		}
		r.net.Mend(r.scope, port, testkit.SwitchDown)
		return errors.Join(err, r.expect(ctx, vmnetd.ExitOK, "status"))
	})
	return nil
}

// teamd is the pid of the team's teamd, 0 when none runs.
func (r *redundancy) teamd() int {
	text, _ := os.ReadFile("/run/teamd/team0.pid")
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || unix.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

func (r *redundancy) actTeamd(ctx context.Context, show *report) error {
	_ = show.check("teamd is killed, and taken over within a second or two", func() error {
		old, began := r.teamd(), time.Now()
		show.note("kill -9 %d", old)
		worst, err := r.outage(func() error { return unix.Kill(old, unix.SIGKILL) })
		if err != nil {
			return err
		}
		for r.teamd() == old || r.teamd() == 0 {
			if time.Since(began) > testkit.Patience || ctx.Err() != nil {
				return errors.New("it is not taken over")
			}
			time.Sleep(5 * time.Millisecond)
		}
		show.note("teamd runs again after %v; no guest was without a frame for more than %v", time.Since(began).Round(time.Millisecond), worst.Round(time.Millisecond))
		return nil
	})
	return nil
}

func (r *redundancy) actDaemon(ctx context.Context, show *report) error {
	return show.check("vmnetd is killed and started again, and no guest notices", func() error {
		worst, err := r.outage(func() error {
			show.note("kill -9 %d", r.daemon.PID)
			r.daemon.Kill()
			r.serve(ctx)
			return nil
		})
		if err != nil {
			return err
		}
		show.note("longest time without a frame: %v", worst.Round(time.Millisecond))
		return r.expect(ctx, vmnetd.ExitOK, "list")
	})
}

func (r *redundancy) actConvert(ctx context.Context, show *report) error {
	return show.check("the team becomes a bond under running guests", func() error {
		worst, err := r.outage(func() error { return r.expect(ctx, vmnetd.ExitOK, "convert", "team2bond", "team0", "--live") })
		if err != nil {
			return err
		}
		show.note("the guest that waited longest was out of reach for %v, and none was unplugged", worst.Round(time.Millisecond))
		return errors.Join(r.expect(ctx, vmnetd.ExitOK, "uplink", "confirm"), r.expect(ctx, vmnetd.ExitOK, "status"))
	})
}
