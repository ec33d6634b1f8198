package failover

import (
	"sync"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// watched notes when each guest is first heard of by a port.
type watched struct {
	stop   chan struct{}
	done   sync.WaitGroup
	wanted map[[6]byte]bool
	heard  map[[6]byte]time.Time
}

// What announces a guest: RARP, ARP, or an IPv6 packet.
var telling = []uint16{0x8035, 0x0806, 0x86dd}

// watch listens at the switch's side of a port of the host.
func watch(t testkit.TB, s *testkit.Switches, port string, guests []testkit.FrameGuest) *watched {
	t.Helper()
	w := &watched{stop: make(chan struct{}), wanted: map[[6]byte]bool{}, heard: map[[6]byte]time.Time{}}
	for _, g := range guests {
		w.wanted[[6]byte(g.MAC)] = true
	}
	sniffer := s.Net.Sniff(t, testkit.SwitchSide(port), telling...)
	w.done.Go(func() {
		for {
			f, ok := sniffer.Next(t, 50*time.Millisecond)
			if ok {
				w.note(f)
				continue
			}
			select {
			case <-w.stop:
				return
			default:
			}
		}
	})
	return w
}

func (w *watched) note(f testkit.Sniffed) {
	mac := [6]byte(f.Bytes[6:12])
	if _, known := w.heard[mac]; !known && w.wanted[mac] {
		w.heard[mac] = f.At
	}
}

// end is when the first guest was heard of and when all were, since began; 0 for
// never.
func (w *watched) end(began time.Time) (first, all time.Duration) {
	close(w.stop)
	w.done.Wait()
	for _, at := range w.heard {
		since := at.Sub(began)
		if first == 0 || since < first {
			first = since
		}
		all = max(all, since)
	}
	if len(w.heard) < len(w.wanted) {
		all = 0
	}
	return first, all
}
