package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// The ways that are compared, in the order they are shown.
const (
	wayFloor   = "floor: the same steps inlined, no daemon"
	wayAPI     = "vmnetd by D-Bus, connection open"
	wayCommand = "`vmnetd attach` / `detach`, whole process"
	wayLibvirt = "`virsh attach-device` / `detach-device` type=direct, whole process"

	wayLibvirtAPI  = "libvirt type=direct by its API, connection open"
	wayEthernet    = "`virsh attach-device` type=ethernet on a macvtap that is there, whole process"
	wayEthernetAPI = "libvirt type=ethernet on a macvtap that is there, by its API, connection open"
	wayOursAPI     = "vmnetd via libvirt by D-Bus, connection open"
	wayOurs        = "`vmnetd attach --via libvirt` / `detach`, whole process"
)

var queueCounts = []int{1, 4}

// way is something that attaches and detaches, and says how long it took.
type way interface {
	attach(ctx context.Context, queues int) (time.Duration, error)
	detach(ctx context.Context, queues int) (time.Duration, error)
}

type contender struct {
	name string
	way
}

// pair is all that was measured of one way with one number of queues.
type pair struct {
	name           string
	queues         int
	attach, detach series
}

// series is times of one thing.
type series []time.Duration

func (s series) median() time.Duration { return s.quantile(0.5) }

func (s series) p90() time.Duration { return s.quantile(0.9) }

// quantile interpolates between the two nearest (type 7 of Hyndman and Fan).
func (s series) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	high := min(low+1, len(sorted)-1)
	part := at - float64(low)
	return sorted[low] + time.Duration(part*float64(sorted[high]-sorted[low]))
}

// compare measures every way in one run.
func compare(ctx context.Context, outer *scope, o options) ([]pair, []start) {
	s := outer.inner()
	defer s.close()
	var ways []contender
	floorHost := newHost(s)
	ways = append(ways, contender{wayFloor, newFloor(s, floorHost, startVM(s, floorHost, "floor", "", 4).Socket)})
	say("vmnetd starts")
	host := newHost(s)
	d := startDaemon(s, host, o.program, "none")
	startVM(s, host, "bench", d.qmp, 4)
	ways = append(ways, contender{wayAPI, byAPI{d: d, vm: "bench", id: "net0"}}, contender{wayCommand, byCommand{d: d, vm: "bench", id: "net0"}})
	var starters []starter
	if o.libvirt {
		more, st := libvirtWays(ctx, s, o)
		ways, starters = append(ways, more...), st
	}
	say("attach and detach, %d rounds of %d ways", o.rounds, len(ways))
	pairs := interleave(ctx, s, ways, queueCounts, o.rounds)
	if !o.libvirt {
		return pairs, nil
	}
	say("starts of domains, %d rounds, then %d at once", o.rounds, crowdOfStarts)
	return pairs, measureStarts(ctx, s, o.rounds, starters)
}

// libvirtWays is libvirt's own NICs, and ours in domains of a second libvirtd, with
// a second daemon that has a bus of its own.
func libvirtWays(ctx context.Context, s *scope, o options) ([]contender, []starter) {
	say("libvirtd starts and asks QEMU what it can")
	l := startLibvirt(s, newHost(s), "bench", nil)
	ways := []contender{
		{wayLibvirt, device{l: l, name: "direct"}},
		{wayLibvirtAPI, device{l: l, name: "direct", api: true}},
		{wayEthernet, device{l: l, name: "ethernet", tap: true}},
		{wayEthernetAPI, device{l: l, name: "ethernet", tap: true, api: true}},
	}
	host, d := newHost(s), newDaemon(s, o.program)
	ours := startLibvirt(s, host, "bench", hook(ctx, s, d))
	d.start(s, host, ours.URI)
	ways = append(ways,
		contender{wayOursAPI, byAPI{d: d, vm: "bench", id: "net0", via: "libvirt"}},
		contender{wayOurs, byCommand{d: d, vm: "bench", id: "net0", flags: []string{"--via", "libvirt"}}})
	return ways, []starter{
		{"type=direct", l, func(n int) string { return directNIC(startMAC(n), 1) }},
		{"ours, by the hook", ours, func(n int) string { return ethernetNIC(startMAC(n), fmt.Sprintf("vmnstart%d", n), 1) }},
	}
}

// warmUp rounds are not counted: the first ones load programs and fill caches.
const warmUp = 2

// interleave measures the ways in turn, beginning with another one each round:
// what else this machine does meets all of them alike.
func interleave(ctx context.Context, s *scope, ways []contender, counts []int, rounds int) []pair {
	var pairs []pair
	for _, w := range ways {
		for _, q := range counts {
			pairs = append(pairs, pair{name: w.name, queues: q})
		}
	}
	for round := range warmUp + rounds {
		for i := range pairs {
			i = (i + round) % len(pairs)
			attach, detach := once(ctx, s, ways[i/len(counts)], pairs[i].queues)
			if round >= warmUp {
				pairs[i].attach = append(pairs[i].attach, attach)
				pairs[i].detach = append(pairs[i].detach, detach)
			}
		}
	}
	return pairs
}

func once(ctx context.Context, s *scope, w contender, queues int) (attach, detach time.Duration) {
	attach, err := w.attach(ctx, queues)
	if err == nil {
		err = pause(ctx, settle)
	}
	if err == nil {
		detach, err = w.detach(ctx, queues)
	}
	if err == nil {
		err = pause(ctx, settle)
	}
	if err != nil {
		s.must(fmt.Errorf("%s, %d queues: %w", w.name, queues, err))
	}
	return attach, detach
}

// settle lets what comes after an answer (a daemon's events, the kernel's RCU
// callbacks) end before the next thing is measured.
const settle = 50 * time.Millisecond
