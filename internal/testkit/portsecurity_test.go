package testkit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAPortWithSecurityTakesTheFirstMACsAlone(t *testing.T) {
	testkit.Require(t, "netns")
	host, far := testkit.NewNetns(t), testkit.NewNetns(t)
	host.IPv6(t, false)
	testkit.NewVeth(t, host, "u0", far, "port0")
	port := testkit.NewPortSecurity(t, far, "port0", 2)
	first := host.NewFrameGuests(t, "u0", 3)
	heard := far.Sniff(t, "port0")
	for range 2 {
		for _, g := range first {
			g.Speak(t)
		}
	}
	for range 6 {
		if _, ok := heard.Next(t, testkit.Patience); !ok {
			t.Fatal("a guest does not speak")
		}
	}
	deadline := time.Now().Add(testkit.Patience)
	for port.Dropped(t) != 2 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	want := []string{first[0].MAC.String(), first[1].MAC.String()}
	got := slices.Sorted(slices.Values(port.MACs(t)))
	if slices.Sort(want); !slices.Equal(got, want) || port.Dropped(t) != 2 {
		t.Errorf("it takes %v, not %v, and has dropped %d frames", got, want, port.Dropped(t))
	}
}
