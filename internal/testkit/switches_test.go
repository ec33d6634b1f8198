package testkit

import (
	"testing"
	"time"
)

// TestVMASilentGuestIsLostAfterAFailover is the fault that announcements are
// for. Without it, tests of announcements would prove nothing.
func TestVMASilentGuestIsLostAfterAFailover(t *testing.T) {
	Require(t, "vm")
	s := NewSwitches(t)
	s.Bond(t, "bond0", "mode", "active-backup", "miimon", "50")
	guests := s.Host.NewFrameGuests(t, "bond0", 2)
	for _, g := range guests {
		g.Speak(t)
	}
	stream := StartStream(t, s.Peer, "peer0", guests, 20*time.Millisecond)
	if !stream.Everybody(Patience) {
		t.Fatal("the stream does not reach the guests")
	}
	stream.Arm()
	s.Fail(t, PortA, SwitchDown)
	stream.Mark()
	if stream.Everybody(2 * time.Second) {
		t.Errorf("the guests hear again by themselves: %v", stream.Outages())
	}
	guests[0].Speak(t)
	for deadline := time.Now().Add(Patience); !stream.Outages()[0].Ended; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a guest that has spoken is not heard of")
		}
	}
	if o := stream.Outages(); o[1].Ended {
		t.Errorf("the other guest hears, too: %v", o)
	}
}
