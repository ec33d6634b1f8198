package tapdev

import (
	"context"
	"testing"

	"github.com/vmnetd/vmnetd"
)

// BenchmarkEnsure makes and marks a device; deleting it is not counted.
func BenchmarkEnsure(b *testing.B) {
	l := newLab(b, nil)
	s := l.spec(1, vmnetd.Bridge)
	for b.Loop() {
		dev := l.ensure(b, s)
		b.StopTimer()
		if err := l.Remove(context.Background(), dev); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkEnsureAgain takes a device that is there.
func BenchmarkEnsureAgain(b *testing.B) {
	l := newLab(b, nil)
	s := l.spec(1, vmnetd.Bridge)
	l.ensure(b, s)
	for b.Loop() {
		l.ensure(b, s)
	}
}

func benchmarkOpen(b *testing.B, queues int, shared bool) {
	l := newLab(b, nil)
	if !shared {
		l.ownDev(b)
	}
	s := l.spec(1, vmnetd.Bridge)
	s.Queues = queues
	dev := l.ensure(b, s)
	for b.Loop() {
		set, err := l.Open(context.Background(), dev)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = set.Close()
		b.StartTimer()
	}
}

func BenchmarkOpen(b *testing.B)            { benchmarkOpen(b, 1, true) }
func BenchmarkOpenFourQueues(b *testing.B)  { benchmarkOpen(b, 4, true) }
func BenchmarkOpenPrivateNode(b *testing.B) { benchmarkOpen(b, 1, false) }

// BenchmarkUp sets a device up; setting it down is not counted.
func BenchmarkUp(b *testing.B) {
	l := newLab(b, nil)
	dev := l.ensure(b, l.spec(1, vmnetd.Bridge))
	for b.Loop() {
		if err := l.SetUp(context.Background(), dev, true); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := l.SetUp(context.Background(), dev, false); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func benchmarkRemove(b *testing.B, n int) {
	l := newLab(b, nil)
	for b.Loop() {
		b.StopTimer()
		devs := l.many(b, n)
		b.StartTimer()
		if err := l.Remove(context.Background(), devs...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRemove(b *testing.B)        { benchmarkRemove(b, 1) }
func BenchmarkRemoveHundred(b *testing.B) { benchmarkRemove(b, 100) }
