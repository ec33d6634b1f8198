package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// shaped is the direction in which the guest's device sends, as config names it:
// a macvtap's guest is behind its sending side.
func (s *speaker) shaped() string {
	if s.att.Mode.Sends(s.att.Kind) == "egress" {
		return "out"
	}
	return "in"
}

// hasRate says why what the device sends does not have that rate, as tc(8) writes
// it; "" for none.
func (s *speaker) hasRate(rate string) error {
	s.b.t.Helper()
	qdiscs := s.b.inside(s.b.host, "tc", "qdisc", "show", "dev", s.att.Ifname)
	if got := strings.Contains(qdiscs, "tbf"); got != (rate != "") || !strings.Contains(qdiscs, "rate "+rate) && rate != "" {
		return fmt.Errorf("%s is to send with %q: %s", s.att.Ifname, rate, qdiscs)
	}
	return nil
}

// received is the bytes that came in at a device so far.
func received(t testing.TB, ns *testkit.Netns, ifname string) int {
	t.Helper()
	n := 0
	err := ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		for line := range strings.Lines(string(text)) {
			if name, rest, _ := strings.Cut(strings.TrimSpace(line), ":"); name == ifname {
				_, err = fmt.Sscan(rest, &n)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// blast sends frames of 1000 bytes for a while, ten times what a rate allows, and
// says how many bits a second came in on the other side.
func blast(t testing.TB, send func([]byte), frame []byte, to *testkit.Netns, ifname string) (got float64) {
	t.Helper()
	const sent = 40e6 // bit/s
	before, began := received(t, to, ifname), time.Now()
	for n := 0; time.Since(began) < time.Second; {
		if float64(n*len(frame)*8) > sent*time.Since(began).Seconds() {
			time.Sleep(time.Millisecond) // ahead of its rate
			continue
		}
		send(frame)
		n++
	}
	took := time.Since(began)
	return float64(received(t, to, ifname)-before) * 8 / took.Seconds()
}

// What the device sends is held at its rate; the other direction, which has no
// rate, is not.
func TestBandwidthHoldsInItsDirectionAlone(t *testing.T) {
	t.Parallel()
	eachSpeaker(t, modesConfig, func(t *testing.T, b *bed, begin func(string, ...string) *speaker) {
		s := begin("vm1", given...)
		peer := parseMAC(t, b.outside.Link(t, "sw0").MAC.String())
		port := rawSocket(t, b.outside, "sw0")
		payload := make([]byte, 958)
		directions := map[string]func() float64{
			"out": func() float64 {
				return blast(t, s.send, udp4(peer, s.mac, speaker4, mustAddr(outside4), 5000, 9, payload), b.outside, s.port)
			},
			"in": func() float64 {
				frame := udp4(s.mac, peer, mustAddr(outside4), speaker4, 5000, 9, payload)
				return blast(t, func(f []byte) { _, _ = unix.Write(port, f) }, frame, s.stack, s.dev)
			},
		}
		s.honest() // the switch has learned where everybody is
		b.config(strings.ReplaceAll(modesConfig, `{vm: "*", networks: [lan, sw]`, `{vm: "*", networks: [lan, sw], bandwidth: {`+s.shaped()+`: 4M}`))
		b.must(0, "reload")
		b.eventually("the bandwidth is in force", 10*time.Second, func() error { return s.hasRate("4Mbit") })
		for direction, measure := range directions {
			right := false
			for try := 0; try < 3 && !right; try++ { // a second in which the machine had no time says nothing
				got := measure()
				t.Logf("%s: %.1f Mbit/s", direction, got/1e6)
				right = (got < 8e6) == (direction == s.shaped()) && got >= 2e6
			}
			if !right {
				t.Errorf("%s is out of range each time; %s alone has a rate, 4 Mbit/s", direction, s.shaped())
			}
		}
		s.honest()
	})
}
