package policy

import (
	"fmt"
	"strconv"
)

// rateLines say how much passes by direction, where somebody limits it.
func (c *choice) rateLines() []Line {
	var lines []Line
	for _, l := range []struct {
		label, key string
		rate       Rate
	}{{"rate in", "bandwidth.in", c.d.Bandwidth.In}, {"rate out", "bandwidth.out", c.d.Bandwidth.Out}} {
		if l.rate.Bits == 0 {
			continue
		}
		value := decimal(l.rate.Bits) + "bit/s"
		if l.rate.Burst != 0 {
			value += ", burst " + decimal(uint64(l.rate.Burst)) + "B"
		}
		lines = append(lines, Line{l.label, value, c.grant.by[l.key].String()})
	}
	return lines
}

// limits drops bursts of directions without a rate: there is nothing to exceed.
func (b Bandwidth) limits() Bandwidth {
	if b.In.Bits == 0 {
		b.In = Rate{}
	}
	if b.Out.Bits == 0 {
		b.Out = Rate{}
	}
	return b
}

// decimal is a number with the unit of 1000 that leaves it shortest: "2.5 G".
func decimal(n uint64) string {
	for _, u := range []struct {
		unit string
		of   uint64
	}{{"G", 1_000_000_000}, {"M", 1_000_000}, {"k", 1000}} {
		if n >= u.of {
			return fmt.Sprintf("%s %s", strconv.FormatFloat(float64(n)/float64(u.of), 'f', -1, 64), u.unit)
		}
	}
	return fmt.Sprintf("%d ", n)
}
