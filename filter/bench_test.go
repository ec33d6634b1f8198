package filter

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// crowd makes macvtaps, down, and gives all but the first a filter.
func crowd(b *testing.B, l *lab, n int) Spec {
	b.Helper()
	specs := crowdSpecs(b, l, n)
	if err := l.SetAll(ctx(), specs[1:]); err != nil {
		b.Fatal(err)
	}
	return specs[0]
}

func crowdSpecs(b testing.TB, l *lab, n int) []Spec {
	b.Helper()
	lower := l.ns.Link(b, "u0").Index
	var specs []Spec
	for i := range n {
		name := fmt.Sprintf("mv%d", i)
		l.ns.Create(b, rtnl.NewLink{Name: name, Kind: "macvtap", Lower: lower, Data: rtnl.MacvlanMode("bridge")})
		g := guest{ifname: name, hook: Egress, mac: ownMAC}
		specs = append(specs, g.strict())
	}
	return specs
}

// BenchmarkRepair is how long `nft flush ruleset` leaves so many devices without
// their filters once it is heard of.
func BenchmarkRepair(b *testing.B) {
	for _, n := range []int{64, 1000} {
		b.Run(fmt.Sprintf("of%d", n), func(b *testing.B) {
			l := newLab(b)
			specs := crowdSpecs(b, l, n)
			if err := l.SetAll(ctx(), specs); err != nil {
				b.Fatal(err)
			}
			b.Run("flush", func(b *testing.B) { benchmarkRepair(b, l, specs) })
			b.Run("one by one", func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					l.ns.Run(b, "nft", "flush", "ruleset")
					b.StartTimer()
					for _, s := range specs {
						if _, err := l.Holds(ctx(), s); err != nil {
							b.Fatal(err)
						}
						l.set(b, s)
					}
				}
			})
			b.Run("nothing lost", func(b *testing.B) {
				for b.Loop() {
					if lost, err := l.Lost(ctx(), specs); err != nil || len(lost) != 0 {
						b.Fatal(len(lost), err)
					}
				}
			})
		})
	}
}

func benchmarkRepair(b *testing.B, l *lab, specs []Spec) {
	var spent time.Duration
	for b.Loop() {
		b.StopTimer()
		l.ns.Run(b, "nft", "flush", "ruleset")
		b.StartTimer()
		before := cpu(b)
		lost, err := l.Lost(ctx(), specs)
		if err != nil || len(lost) != len(specs) {
			b.Fatal(len(lost), err)
		}
		if err := l.SetAll(ctx(), lost); err != nil {
			b.Fatal(err)
		}
		spent += cpu(b) - before
	}
	b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "cpu-ms/op")
}

// cpu is the time that this process has had of the CPUs: on a machine with other
// work the clock tells something else.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSet is an attach's filter, and its end, among so many others.
func BenchmarkSet(b *testing.B) {
	for _, n := range []int{1, 64, 1000} {
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
