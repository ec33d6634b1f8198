package datapath

import (
	"context"
	"fmt"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// testing is what a measurement needs of its caller: errors end it.
type testing struct{ testkit.TB }

func (t testing) must(err error) {
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// Options is how long is measured.
type Options struct {
	Rounds int           // how often each path has its turn
	Turn   time.Duration // how long it has it
}

// key is a path with its filter on or off.
type key struct {
	path   int
	filter bool
}

// ByFDs measures paths between two guests without a QEMU: this process writes to
// the one's queues and reads the other's, a thread for each queue; by vhost-net it does
// so in memory. The paths take turns.
func ByFDs(ctx context.Context, tb testkit.TB, o Options, paths ...Path) []Figures {
	t := testing{tb}
	var labs []*lab
	for i, p := range paths {
		labs = append(labs, newLab(t, i, p))
	}
	seen := map[key]*turns{}
	for round := range o.Rounds {
		for i := range labs {
			i = (i + round) % len(labs)
			for _, filter := range []bool{round%2 == 0, round%2 != 0} {
				t.must(ctx.Err())
				t.must(labs[i].filtered(filter))
				k := key{i, filter}
				if seen[k] == nil {
					seen[k] = &turns{}
				}
				labs[i].turn(seen[k], o.Turn)
			}
		}
	}
	var all []Figures
	for i, p := range paths {
		off, on := seen[key{i, false}], seen[key{i, true}]
		without, with := off.figures(p, false), on.figures(p, true)
		with.BitsLeft, with.FramesLeft = left(on.bits, off.bits), left(on.frames, off.frames)
		for _, f := range []Figures{without, with} {
			if f.Bits == 0 || f.Frames == 0 || f.P99 == 0 {
				t.must(fmt.Errorf("nothing comes through %s with the filter %v", p.Name(), f.Filter))
			}
			all = append(all, f)
		}
	}
	return all
}

// flows is how many flows a guest sends: enough to reach every queue.
const flows = 32

func (l *lab) turn(to *turns, during time.Duration) {
	a, b := l.guests[0], l.guests[1]
	shorts, longs := make([][]byte, flows), make([][]byte, flows)
	for i := range flows {
		shorts[i], longs[i] = small(a.station, b.station, uint16(1000+i)), large(a.station, b.station, uint16(1000+i))
	}
	drain(a.queues)
	drain(b.queues)
	pings := pingPong(a.queues, b.queues, shorts[0], small(b.station, a.station, 9), during)
	to.pings = append(to.pings, pings...)
	n, took, _ := l.blast(shorts, smallHeads, 96, during)
	to.frames = append(to.frames, n/(smallFrame+header-smallHeads)/took.Seconds())
	n, took, cpu := l.blast(longs, largeHeads, 24, during)
	to.bits = append(to.bits, n*8/took.Seconds())
	if n > 0 {
		to.cpu = append(to.cpu, cpu.Seconds()/(n*8)*1e9)
	}
}

// blast sends frames from the first guest to the second, window of them for each
// queue at a time.
func (l *lab) blast(frames [][]byte, heads, window int, during time.Duration) (payload float64, took, cpu time.Duration) {
	a, b := l.guests[0].queues, l.guests[1].queues
	bl := &blast{from: a, to: b, frames: frames, heads: heads, window: int64(window * len(a) * (len(frames[0]) - heads))}
	payload, took, cpu = bl.run(during)
	drain(b)
	return payload, took, cpu
}
