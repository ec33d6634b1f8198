package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"github.com/vmnetd/vmnetd/internal/failover"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// The aims of a failover.
const (
	aimFirst   = 10 * time.Millisecond  // from the change of the active port to the first frame, 1 guest
	aimAll     = 50 * time.Millisecond  // to the last of 200 guests
	aimConvert = 100 * time.Millisecond // a team becomes a bond, 20 guests
)

// inVM has that measured which needs a kernel with bond and team.
func inVM(ctx context.Context, o options) (sections string, err error) {
	say("provisioning and failovers, in a VM: some minutes")
	own, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, o.vmtier, "run", "-timeout", "20m", "--", own, "-vmnetd", o.program, "-uplinks", "-rounds", strconv.Itoa(o.rounds))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return string(out), err
}

// failoverSection measures, and is a part of the page.
func failoverSection(s *scope, program string) string {
	var b bytes.Buffer
	p := page{&b}
	p.line("## Failover")
	p.line("")
	p.line("Guests that say nothing hear a frame each 20 ms (200 guests: each 80 ms) from a peer behind two switches; the active port fails. In the VM of")
	p.line("`make test-vm`: Debian's kernel, emulated without KVM on two cores, in which everything takes several times as long as on a host. First and all: from the")
	p.line("moment at which vmnetd hears of the change to its first frame, and to that of the last guest. Outage: from the last frame before to the first after,")
	p.line("with how long the failure itself takes to be noticed (a bond looks every 50 ms, arp_ping waits for three answers at 100 ms).")
	p.line("")
	p.row("uplink", "failure", "guests", "announced by", "first, ms", "all, ms", "outage, median ms", "worst ms")
	p.row("---", "---", "---:", "---", "---:", "---:", "---:", "---:")
	var first, all time.Duration
	for _, c := range failoverCases(program) {
		say("%s, %d guests, %s", c.Uplink.Name, c.Guests, c.Who)
		mine := s.inner()
		for _, r := range failover.Measure(mine, c) {
			p.row(failoverRow(r)...)
			if a := r.Announced; a != nil && c.Guests == 1 {
				first = max(first, time.Duration(a.FirstU)*time.Microsecond)
			} else if a != nil && c.Guests == 200 {
				all = max(all, time.Duration(a.TookUs)*time.Microsecond)
			}
		}
		mine.close()
	}
	p.line("")
	p.row("aim", "slowest", "")
	p.row("---", "---", "---")
	p.row(fmt.Sprintf("1 guest announced within %s ms of the change", ms(aimFirst)), ms(first)+" ms", aim{met: first <= aimFirst}.verdict())
	p.row(fmt.Sprintf("all of 200 within %s ms", ms(aimAll)), ms(all)+" ms", aim{met: all <= aimAll}.verdict())
	anchorPart(s, p, program)
	return b.String()
}

func failoverCases(program string) []failover.Case {
	both := []testkit.Failure{testkit.SwitchDown, testkit.AdminDown}
	var cases []failover.Case
	for _, uplink := range []failover.Uplink{failover.Bond, failover.Team, failover.TeamARP} {
		failures := both
		if uplink.Name == failover.TeamARP.Name {
			failures = []testkit.Failure{testkit.Mute}
		}
		for _, guests := range []int{1, 50, 200} {
			cases = append(cases, failover.Case{Uplink: uplink, Guests: guests, Who: &failover.Daemon{Program: program}, Failures: failures, Patience: 10 * time.Second})
		}
		cases = append(cases,
			failover.Case{Uplink: uplink, Guests: 1, Who: failover.Nobody{}, Failures: failures, Patience: 5 * time.Second},
			failover.Case{Uplink: uplink, Guests: 1, Who: failover.Kernel{}, Failures: failures, Patience: 5 * time.Second})
	}
	return cases
}

func failoverRow(r failover.Result) []string {
	median, worst, ended := r.Outage()
	row := []string{r.Uplink.Name, string(r.Failure), fmt.Sprint(r.Guests), r.Who.String(), "-", "-", ms(median), ms(worst)}
	if a := r.Announced; a != nil {
		row[4], row[5] = ms(time.Duration(a.FirstU)*time.Microsecond), ms(time.Duration(a.TookUs)*time.Microsecond)
	}
	if !ended {
		row[6], row[7] = "for ever", "for ever"
	}
	return row
}

// anchorPart is what an anchor costs, and what it is good for.
func anchorPart(s *scope, p page, program string) {
	const guests = 20
	var gaps []time.Duration
	mine := s.inner()
	for _, o := range failover.Conversion(mine, program, guests, 10*time.Millisecond) {
		gaps = append(gaps, o.Gap)
	}
	mine.close()
	slices.Sort(gaps)
	p.line("")
	p.line("## Anchor")
	p.line("")
	p.line("A team under an anchor becomes a bond (`vmnetd convert team2bond --live`) under %d guests that hear a frame each 10 ms: longest gap of a guest %s ms (median",
		guests, ms(gaps[len(gaps)-1]))
	p.line("%s ms; aim: %s ms), no NIC unplugged.", ms(gaps[len(gaps)/2]), ms(aimConvert))
	p.line("")
	bare, over := anchorRates(s)
	p.line("What the extra device costs: a guest sends %.0f frames of 60 bytes a second on a bond, and %.0f on an anchor over it (%+.1f %%); one core, in the same VM.",
		bare, over, 100*(over/bare-1))
}

// anchorRates is how fast a guest sends on a bond, and on another bond over it:
// turn by turn, the median of each.
func anchorRates(s *scope) (bare, over float64) {
	const turns, during = 7, time.Second
	mine := s.inner()
	defer mine.close()
	sw := testkit.NewSwitches(mine)
	sw.Bond(mine, "b0", "mode", "active-backup", "miimon", "50")
	onBond := sw.Host.NewFrameGuests(mine, "b0", 1)[0]
	other := testkit.NewSwitches(mine)
	other.Bond(mine, "b0", "mode", "active-backup", "miimon", "50")
	other.Host.Run(mine, "ip", "link", "add", "wan", "type", "bond", "mode", "active-backup", "miimon", "50")
	other.Host.SetDown(mine, "b0")
	other.Host.Run(mine, "ip", "link", "set", "b0", "master", "wan")
	other.Host.SetUp(mine, "wan")
	other.Host.WaitRunning(mine, "wan")
	onAnchor := other.Host.NewFrameGuests(mine, "wan", 1)[0]
	var bares, overs []float64
	for range turns {
		bares = append(bares, failover.Rate(mine, onBond, 46, during))
		overs = append(overs, failover.Rate(mine, onAnchor, 46, during))
	}
	slices.Sort(bares)
	slices.Sort(overs)
	return bares[turns/2], overs[turns/2]
}
