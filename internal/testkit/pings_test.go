package testkit

import (
	"net/netip"
	"testing"
	"time"
)

func TestPingsThatAreLostAreCountedAndThoseOnTheirWayAreNot(t *testing.T) {
	Require(t, "netns")
	here, there := NewNetns(t), NewNetns(t)
	NewVeth(t, here, "eth0", there, "eth0")
	there.Run(t, "ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
	there.Run(t, "ip", "address", "add", "192.0.2.3/24", "dev", "eth0")
	here.Run(t, "ip", "address", "add", PeerAddress+"/24", "dev", "eth0")
	p := StartPings(t, here, 5*time.Millisecond, netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"))
	if !p.Answered(1, Patience) {
		t.Fatal("not everybody answers")
	}

	p.Begin()
	if !p.Answered(1, Patience) {
		t.Fatal("not everybody answers")
	}
	for i, c := range p.Counts() {
		if c.Sent == 0 || c.Lost != 0 {
			t.Errorf("with nothing wrong, of address %d: %+v", i, c)
		}
	}

	p.Begin()
	there.Run(t, "ip", "address", "del", "192.0.2.3/24", "dev", "eth0")
	if p.Answered(1, 100*time.Millisecond) {
		t.Fatal("an address answers that is nobody's")
	}
	there.Run(t, "ip", "address", "add", "192.0.2.3/24", "dev", "eth0")
	if !p.Answered(1, Patience) {
		t.Fatal("not everybody answers again")
	}
	counts := p.Counts()
	if whole := counts[0]; whole.Lost != 0 || whole.Sent == 0 {
		t.Errorf("of the address that was there all the time: %+v", whole)
	}
	if gone := counts[1]; gone.Lost == 0 || gone.Lost >= gone.Sent || gone.Gap < 100*time.Millisecond {
		t.Errorf("of the address that was away: %+v", gone)
	}
	p.Stop()
}
