package datapath

import (
	"fmt"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
)

// Path is a way from one guest to another.
type Path struct {
	Mode   vmnetd.Mode
	Queues int
	VHost  bool
}

// Name is what the device is called, with its mode.
func (p Path) Name() string {
	if p.Mode == vmnetd.Switched {
		return "tap, switched"
	}
	return fmt.Sprintf("%s %s", p.Mode.Info().Kind, p.Mode)
}

// Figures is what was measured of a path, with the filter on or off.
type Figures struct {
	Path
	Filter bool
	Bits   float64       // of payload, bit/s
	Frames float64       // of 60 bytes, per second
	Median time.Duration // of a ping and its answer
	P99    time.Duration
	CPU    float64 // CPU seconds of this host for 10^9 bit of payload

	// What is left with the filter on, as a part of what a turn beside it showed
	// without: 1 is all. 0 where turns were not compared.
	BitsLeft, FramesLeft float64
}

// turns is what short turns have shown of one path.
type turns struct {
	bits, frames, cpu []float64
	pings             []time.Duration
}

// figures is what one turn in ten exceeds, since what else runs on the machine only
// takes away; CPU time is the median, pings are all.
func (t turns) figures(p Path, filter bool) Figures {
	return Figures{
		Path: p, Filter: filter, Bits: quantile(t.bits, 0.9), Frames: quantile(t.frames, 0.9), CPU: quantile(t.cpu, 0.5),
		Median: quantile(t.pings, 0.5), P99: quantile(t.pings, 0.99),
	}
}

// left is the median part that turns have of those beside them.
func left(with, without []float64) float64 {
	var parts []float64
	for i := range min(len(with), len(without)) {
		if without[i] > 0 {
			parts = append(parts, with[i]/without[i])
		}
	}
	return quantile(parts, 0.5)
}

func quantile[T float64 | time.Duration](list []T, q float64) T {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[int(q*float64(len(sorted)-1))]
}
