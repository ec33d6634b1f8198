package filter

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkThroughput measures frames a second through a queue with and without
// the filter, by turns of 10 ms, and compares what one turn in ten exceeds: what
// else runs on the machine only takes away. 60 and 1514 are frames; 64054 is what
// a guest hands over as one, to be cut into segments.
func BenchmarkThroughput(b *testing.B) {
	for _, kind := range []string{"macvtap", "tap"} {
		for _, size := range []int{60, 1514, 64054} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) { throughput(b, kind, size) })
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
	blast := blastFrame(size)
	const turn = 10 * time.Millisecond
	var with, without []float64
	for b.Loop() {
		if err := l.Remove(ctx(), g.ifname); err != nil {
			b.Fatal(err)
		}
		without = append(without, rate(b, fd, blast, turn))
		l.set(b, g.strict())
		with = append(with, rate(b, fd, blast, turn))
	}
	b.ReportMetric(decile(without)/1000, "kpps-bare")
	b.ReportMetric(decile(with)/1000, "kpps-filtered")
	b.ReportMetric(100*decile(with)/decile(without), "%")
}

// blastFrame is TCP behind a virtio-net header, which asks for segments of 1448
// bytes where it is larger than a frame (uapi/linux/virtio_net.h).
func blastFrame(size int) []byte {
	segment := slices.Concat(be16(1000), be16(2000), make([]byte, 8), []byte{0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, size-54))
	header := make([]byte, 10)
	if size > 1514 {
		header = []byte{1, 1, 54, 0, 1448 & 0xff, 1448 >> 8, 34, 0, 16, 0}
	}
	return append(header, ether(peerMAC, ownMAC, 0x0800, ip4(ownIP, peer, protoTCP, segment))...)
}

func decile(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)*9/10]
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
