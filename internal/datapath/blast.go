package datapath

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// blast is one guest that sends as fast as another one receives: what is on its way
// is never more than a window, as with TCP.
type blast struct {
	from, to []queue
	frames   [][]byte
	heads    int   // bytes of each that are no payload
	window   int64 // bytes of payload

	sent, got, lost atomic.Int64 // bytes of payload
	stop            atomic.Bool
}

// patience is how long a sender waits for a window before it takes what is on its
// way for lost: longer than a receiver is off its CPU.
const patience = 20 * time.Millisecond

// run is how much payload arrives in a time, in bytes, and the CPU time of this process
// meanwhile: the kernel works frames off in the sender's and the receiver's name.
func (b *blast) run(during time.Duration) (payload float64, took, cpu time.Duration) {
	var work sync.WaitGroup
	began, used := time.Now(), cpuTime()
	for i := range b.from {
		work.Go(func() { b.send(i) })
		work.Go(func() { b.receive(b.to[i]) })
	}
	time.Sleep(during)
	b.stop.Store(true)
	took, cpu = time.Since(began), cpuTime()-used
	work.Wait()
	return float64(b.got.Load()), took, cpu
}

// batch is how many frames a sender sends before it looks at the window again.
const batch = 16

func (b *blast) send(nth int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for n := nth; !b.stop.Load(); {
		if !b.room() {
			continue
		}
		for range batch {
			n++
			f := b.frames[n%len(b.frames)]
			if _, err := b.from[nth].Write(f); err == nil {
				b.sent.Add(int64(len(f) - b.heads))
			}
		}
	}
}

// room waits for a window.
func (b *blast) room() bool {
	began := time.Now()
	for {
		flying := b.sent.Load() - b.got.Load() - b.lost.Load()
		switch {
		case b.stop.Load():
			return false
		case flying < b.window:
			return true
		case time.Since(began) > patience:
			b.lost.Add(flying)
			return true
		}
		yield()
	}
}

func (b *blast) receive(q queue) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, 1<<17)
	for !b.stop.Load() {
		if n, err := q.Read(buf); err == nil {
			b.got.Add(int64(n - b.heads))
		} else if errors.Is(err, unix.EAGAIN) {
			wait(q)
		}
	}
}

// yield lets another thread have the CPU.
func yield() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
