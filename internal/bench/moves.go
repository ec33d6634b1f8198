package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// aimSilence is how long a guest that says nothing may hear nothing once its CPUs
// run on another host.
const aimSilence = 100 * time.Millisecond

// move is what live migrations of a guest cost one kind of its NICs.
type move struct {
	ours, silent bool
	lost         []int  // pings of each move
	gap          series // the longest without an answer
	silence      series // of that, since the guest's CPUs ran
}

// The guest that is moved: one NIC of ours, one of libvirt's type='direct', each in
// a network of its own so that it answers by the one that it was asked by.
const (
	moveOursMAC, moveDirectMAC   = "52:54:00:f4:00:01", "52:54:00:f4:00:02"
	moveOurs, moveDirect         = "192.0.2.2", "198.51.100.2"
	moveOursPeer, moveDirectPeer = testkit.PeerAddress, "198.51.100.1"
	movePing                     = 10 * time.Millisecond
)

// measureMoves moves guests to and fro. A guest works its NICs off in the order
// that it found them in, so each comes first in one of two guests.
func measureMoves(ctx context.Context, outer *scope, o options) []move {
	moves := []move{{ours: true}, {}, {ours: true, silent: true}, {silent: true}}
	for _, oursFirst := range []bool{true, false} {
		say("a guest with two NICs is moved %d times, ours first: %v", o.rounds, oursFirst)
		s := outer.inner()
		moveGuest(ctx, s, o, oursFirst, moves)
		s.close()
	}
	return moves
}

// moveGuest moves one guest half of the rounds while it answers its peer, and as
// often when the switch hears nothing of what it says.
func moveGuest(ctx context.Context, s *scope, o options, oursFirst bool, moves []move) {
	hosts := testkit.NewTwoHosts(s)
	from, to := moveHost(ctx, s, hosts.A, o.program), moveHost(ctx, s, hosts.B, o.program)
	nics := []string{ethernetNIC(moveOursMAC, "vmnmove", 1), directNIC(moveDirectMAC, 1)}
	if !oursFirst {
		slices.Reverse(nics)
	}
	g := testkit.BootLibvirtGuest(s, from, testkit.LibvirtGuestOptions{Name: "move", Interfaces: nics})
	hosts.Acquaint(s, g, moveOursMAC, moveOurs, moveOursPeer)
	hosts.Acquaint(s, g, moveDirectMAC, moveDirect, moveDirectPeer)
	pings := testkit.StartPings(s, hosts.Peer, movePing, netip.MustParseAddr(moveOurs), netip.MustParseAddr(moveDirect))
	for kind, silent := range []bool{false, true} {
		if silent {
			hosts.Mute(s, pings)
		}
		for range max(o.rounds/2, 1) {
			s.must(ctx.Err())
			for i, cost := range testkit.MeasureMigration(s, pings, to, func() error { return g.Migrate(to, nil) }) {
				moves[kind*len(nics)+i].add(cost)
			}
			from, to = to, from
		}
	}
}

// moveHost is a libvirtd with our hook, and a daemon.
func moveHost(ctx context.Context, s *scope, ns *testkit.Netns, program string) *testkit.Libvirtd {
	d, l := newDaemon(s, program), testkit.StartLibvirtd(s, testkit.LibvirtdOptions{Netns: ns.Do})
	hook(ctx, s, d)(l.Hooks)
	l.Kill() // hooks count when libvirtd starts
	l.Start()
	d.start(s, &host{ns}, l.URI)
	return l
}

func (m *move) add(c testkit.MigrationCost) {
	m.lost, m.gap, m.silence = append(m.lost, c.Lost), append(m.gap, c.Gap), append(m.silence, c.Silence)
}

func (m move) String() string {
	guest, nic := "that answers", "type=direct"
	if m.silent {
		guest = "that says nothing"
	}
	if m.ours {
		nic = "ours"
	}
	return fmt.Sprintf("guest %s, %s", guest, nic)
}

// meanLost is how many pings a move loses.
func (m move) meanLost() float64 {
	sum := 0
	for _, n := range m.lost {
		sum += n
	}
	return float64(sum) / float64(max(len(m.lost), 1))
}

func movesSection(ctx context.Context, s *scope, o options) string {
	var b bytes.Buffer
	result{options: o, moves: measureMoves(ctx, s, o)}.writeMoves(page{&b})
	return b.String()
}

func (r result) writeMoves(p page) {
	if len(r.moves) == 0 {
		return
	}
	p.line("## Live migration")
	p.line("")
	p.line("`virsh migrate --live` of a guest with an operating system from one host to another and back, %d times. It has a NIC of ours and one of type=direct, both", len(r.moves[0].gap))
	p.line("pinged from behind a switch every %s ms; so both are moved at the same moment. Half of the times the one comes first in the guest, half of the times the", ms(movePing))
	p.line("other: the second answers some ms after the first. Of a guest that says nothing the switch takes no IPv4: it learns where the guest is only when that is")
	p.line("announced. The gap begins when the guest's CPUs stop on the source; the last column when they run on the destination (QEMU's RESUME), and there is the")
	p.line("emulated guest's own time in it. Milliseconds, median (90th percentile).")
	p.line("")
	p.row("", "pings lost, mean", "worst", "longest gap", "of that after its CPUs run")
	p.row("---", "---:", "---:", "---:", "---:")
	for _, m := range r.moves {
		p.row(m.String(), fmt.Sprintf("%.1f", m.meanLost()), fmt.Sprint(slices.Max(m.lost)), times(m.gap), times(m.silence))
	}
	p.line("")
	p.row("aim", "measured", "")
	p.row("---", "---", "---")
	for _, a := range moveAims(r.moves) {
		p.row(a.text, a.measured, a.verdict())
	}
	p.line("")
}

// moveAims compares pings within what one more or less is by chance: a ping is
// sent each movePing.
func moveAims(moves []move) []aim {
	ours, direct, silent := moves[0], moves[1], moves[2]
	return []aim{
		{
			text:     "a guest that answers loses no more pings than with type=direct, within one ping",
			measured: fmt.Sprintf("%.1f against %.1f", ours.meanLost(), direct.meanLost()), met: ours.meanLost() <= direct.meanLost()+1,
		},
		{
			text:     fmt.Sprintf("one that says nothing is reached within %s ms once its CPUs run, 9 times of 10", ms(aimSilence)),
			measured: ms(silent.silence.p90()) + " ms", met: silent.silence.p90() <= aimSilence,
		},
	}
}
