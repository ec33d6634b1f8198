package tapdev

import (
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestTheBroadcastQueueIsAsLongAsAskedFor(t *testing.T) {
	l := newLab(t, nil)
	spec := l.spec(1, vmnetd.Bridge)
	for _, c := range []struct{ asked, want int }{{4000, 4000}, {50, 50}, {0, 50}} {
		spec.BCQueue = c.asked
		dev, err := l.Ensure(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := queuedBroadcasts(l.ns.Link(t, dev.Ifname)); got != c.want {
			t.Errorf("asked for %d: %d", c.asked, got)
		}
	}
}
