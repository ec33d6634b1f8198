package config

import (
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd/policy"
)

// rawBandwidth is bandwidth: rates in bit/s, bursts in bytes.
type rawBandwidth struct {
	in, out           got[uint64]
	burstIn, burstOut got[uint32]
}

var bandwidthKeys = object[rawBandwidth]{what: "bandwidth", rows: []row[rawBandwidth]{
	key("in", func(b *rawBandwidth) *got[uint64] { return &b.in }, codec[got[uint64]](bitRate)),
	key("out", func(b *rawBandwidth) *got[uint64] { return &b.out }, codec[got[uint64]](bitRate)),
	key("burst_in", func(b *rawBandwidth) *got[uint32] { return &b.burstIn }, codec[got[uint32]](burst)),
	key("burst_out", func(b *rawBandwidth) *got[uint32] { return &b.burstOut }, codec[got[uint32]](burst)),
}}

// Bounds of rates and bursts.
const (
	minRate  = 64_000            // bit/s: slower, one frame of 1500 bytes takes a quarter of a second
	maxRate  = 1_000_000_000_000 // bit/s
	minBurst = 2_000             // bytes: a frame of 1500 must fit, or none passes
	maxBurst = 1_000_000_000     // bytes
)

var (
	bitRate = scalar[uint64]{shapes: []shape{text, number}, want: "a rate such as 100M or 2.5Gbit", read: readRate}
	burst   = scalar[uint32]{shapes: []shape{text, number}, want: "a number of bytes such as 64k", read: readBurst}
)

func readRate(s string) (uint64, error) {
	n, ok := decimal(strings.TrimSuffix(s, "bit"))
	if !ok || n < minRate || n > maxRate {
		return 0, invalid("rate %q is not 64k to 1000G: a number of bit/s with k, M or G for thousands, millions, billions", s).
			WithNext("write one such as 100M, 2.5G or 1Gbit")
	}
	return n, nil
}

func readBurst(s string) (uint32, error) {
	n, ok := decimal(s)
	if !ok || n < minBurst || n > maxBurst {
		return 0, invalid("burst %q is not 2k to 1000M: a number of bytes with k or M for thousands or millions", s).
			WithNext("write one such as 64k")
	}
	return uint32(n), nil
}

// decimal reads a number with one of the units k, M and G, which are powers of
// 1000. It may have a fraction that comes out whole.
func decimal(s string) (uint64, bool) {
	if s == "" {
		return 0, false
	}
	unit := 0
	if i := strings.IndexByte("kMG", s[len(s)-1]); i >= 0 {
		unit, s = 3*(i+1), s[:len(s)-1]
	}
	whole, fraction, dot := strings.Cut(s, ".")
	fraction = strings.TrimRight(fraction, "0")
	if whole == "" || dot && unit == 0 || len(fraction) > unit {
		return 0, false
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", unit-len(fraction)), 10, 63)
	return n, err == nil
}

func putBurstIn(g *policy.Grant, v uint32, at policy.Pos) {
	g.Bandwidth.In.Burst = v
	if g.Bandwidth.In.Bits == 0 {
		g.InAt = at
	}
}

func putBurstOut(g *policy.Grant, v uint32, at policy.Pos) {
	g.Bandwidth.Out.Burst = v
	if g.Bandwidth.Out.Bits == 0 {
		g.OutAt = at
	}
}
