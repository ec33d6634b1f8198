package filter

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkThroughput measures frames a second through a queue with and without
// the filter, by turns: the ratio of the medians of short rounds.
func BenchmarkThroughput(b *testing.B) {
	for _, kind := range []string{"macvtap", "tap"} {
		for _, size := range []int{60, 1514} {
			name := kind + "/60"
			if size == 1514 {
				name = kind + "/1514"
			}
			b.Run(name, func(b *testing.B) { throughput(b, kind, size) })
		}
	}
}

func throughput(b *testing.B, kind string, size int) {
	l := newLab(b)
	var fd int
	g := guest{ifname: "mv0", hook: Egress, mac: ownMAC}
	if kind == "tap" {
		fd = openTap(b, l.ns, "tap0")
		l.bridged(b, "tap0")
		l.ns.WaitRunning(b, "tap0")
		g = guest{ifname: "tap0", hook: Ingress, mac: ownMAC}
	} else {
		fd = l.ns.NewFrameGuests(b, "u0", 1)[0].FD
	}
	f := ether(peerMAC, ownMAC, 0x0800, ip4(ownIP, peer, protoTCP, make([]byte, size-34)))
	blast := append(make([]byte, 10), f...)
	const round = 20 * time.Millisecond
	var with, without []float64
	for b.Loop() {
		if err := l.Remove(ctx(), g.ifname); err != nil {
			b.Fatal(err)
		}
		without = append(without, rate(b, fd, blast, round))
		l.set(b, g.strict())
		with = append(with, rate(b, fd, blast, round))
	}
	b.ReportMetric(median(without)/1000, "kpps-bare")
	b.ReportMetric(median(with)/1000, "kpps-filtered")
	b.ReportMetric(100*median(with)/median(without), "%")
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// rate is frames a second of this thread's own time on a CPU: others work beside
// it.
func rate(b *testing.B, fd int, frame []byte, within time.Duration) float64 {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sent, began, used := 0, time.Now(), threadTime(b)
	for time.Since(began) < within {
		for range 64 {
			if _, err := unix.Write(fd, frame); err != nil {
				b.Fatal(err)
			}
		}
		sent += 64
	}
	return float64(sent) / (threadTime(b) - used).Seconds()
}

func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
