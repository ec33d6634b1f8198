package datapath

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// pingPong sends a frame and waits for the other guest's, again and again; each
// time is of both ways. A frame that is lost counts for nothing.
func pingPong(from, to []queue, ping, pong []byte, during time.Duration) (times []time.Duration) {
	var stop atomic.Bool
	var answerer sync.WaitGroup
	answerer.Go(func() { answer(to, pong, &stop) })
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for began := time.Now(); time.Since(began) < during; {
		sent := time.Now()
		_, _ = from[0].Write(ping)
		if heard(from, sent.Add(patience)) {
			times = append(times, time.Since(sent))
		}
	}
	stop.Store(true)
	answerer.Wait()
	return times
}

func answer(queues []queue, pong []byte, stop *atomic.Bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for !stop.Load() {
		if heard(queues, time.Now().Add(patience)) {
			_, _ = queues[0].Write(pong)
		}
	}
}

// heard waits for a frame on any queue.
func heard(queues []queue, until time.Time) bool {
	var buf [256]byte
	for time.Now().Before(until) {
		for _, q := range queues {
			if n, err := q.Read(buf[:]); err == nil && n > 0 {
				return true
			}
		}
		wait(queues...)
	}
	return false
}
