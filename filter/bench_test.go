package filter

import (
	"fmt"
	"testing"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// crowd makes macvtaps, down, and gives all but the first a filter.
func crowd(b *testing.B, l *lab, n int) Spec {
	b.Helper()
	lower := l.ns.Link(b, "u0").Index
	var specs []Spec
	for i := range n {
		name := fmt.Sprintf("mv%d", i)
		l.ns.Create(b, rtnl.NewLink{Name: name, Kind: "macvtap", Lower: lower, Data: rtnl.MacvlanMode("bridge")})
		g := guest{ifname: name, hook: Egress, mac: ownMAC}
		specs = append(specs, g.strict())
	}
	for _, s := range specs[1:] {
		l.set(b, s)
	}
	return specs[0]
}

// BenchmarkSet is an attach's filter, and its end, among so many others.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("of%d", n), func(b *testing.B) {
			l := newLab(b)
			s := crowd(b, l, n)
			b.Run("new", func(b *testing.B) {
				for b.Loop() {
					l.set(b, s)
					b.StopTimer()
					_ = l.Remove(ctx(), s.Ifname)
					b.StartTimer()
				}
			})
			b.Run("remove", func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					l.set(b, s)
					b.StartTimer()
					if err := l.Remove(ctx(), s.Ifname); err != nil {
						b.Fatal(err)
					}
				}
			})
			l.set(b, s)
			b.Run("same", func(b *testing.B) {
				for b.Loop() {
					l.set(b, s)
				}
			})
			b.Run("address", func(b *testing.B) {
				with := s
				with.IPs = append(with.IPs, prefix("2001:db8::8/128"))
				for i := 0; b.Loop(); i++ {
					l.set(b, []Spec{with, s}[i%2])
				}
			})
			b.Run("holds", func(b *testing.B) {
				for b.Loop() {
					if _, err := l.Holds(ctx(), s); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("counters", func(b *testing.B) {
				for b.Loop() {
					if _, err := l.Counters(ctx(), s.Ifname); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
