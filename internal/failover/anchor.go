package failover

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// anchored is an anchor over a team that the daemon makes.
const anchored = `
uplinks:
  - {name: anchored0, team: {runner: {name: activebackup}, ports: [` + testkit.PortA + `, ` + testkit.PortB + `]}}
  - {name: wan, anchor: {over: [anchored0]}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`

// Conversion is how long each guest was out of reach while the team under their
// anchor became a bond; every guest hears a frame each interval.
func Conversion(t testkit.TB, program string, guests int, interval time.Duration) []testkit.Outage {
	t.Helper()
	s := testkit.NewSwitches(t)
	for _, port := range []string{testkit.PortA, testkit.PortB} {
		s.Host.SetUp(t, port)
	}
	d := &Daemon{}
	t.Cleanup(func() { testkit.EndTeamd("anchored0") }) // after the daemon, which would take it over again
	_, d.client = Serve(t, program, s.Host, anchored)
	ctx := context.Background()
	_, err := d.client.Apply(ctx, vmnetd.ApplyOptions{NoConfirm: true})
	check(t, err)
	list := d.attach(t, guests)
	for _, g := range list {
		g.Speak(t)
	}
	stream := testkit.StartStream(t, s.Peer, "peer0", list, interval)
	defer stream.Stop()
	if !stream.Everybody(testkit.Patience) {
		t.Fatalf("the stream does not reach every guest")
	}
	stream.Arm()
	_, err = d.client.Convert(ctx, "anchored0", "bond", true)
	check(t, err)
	stream.Mark()
	if !stream.Everybody(testkit.Patience) {
		t.Fatalf("the stream does not reach every guest after the conversion")
	}
	return stream.Outages()
}

// Rate is how many frames a second a guest can send, as fast as it can for that
// long.
func Rate(t testkit.TB, g testkit.FrameGuest, length int, during time.Duration) float64 {
	t.Helper()
	frame := append(make([]byte, 10), testkit.Frame{Dst: testkit.FrameGuestMAC(9), Src: g.MAC, Text: strings.Repeat("x", length)}.Bytes()...)
	began, n := time.Now(), 0
	for time.Since(began) < during {
		for range 64 {
			if _, err := unix.Write(g.FD, frame); err == nil {
				n++
			}
		}
	}
	return float64(n) / time.Since(began).Seconds()
}
