package main

import (
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestSummaryShowsWhatWasShownAndThePingsLost(t *testing.T) {
	lost := losses{names: []string{"vm1", "vm2"}}
	if got := lost.String(); got != "" {
		t.Errorf("before anything happens: %q", got)
	}
	lost.add(loss{what: "the port in use is pulled", of: []testkit.PingCount{{Sent: 27, Lost: 1}, {Sent: 1200, Lost: 1100}}})
	var out strings.Builder
	show := newReport(&out)
	_ = show.check("they are back within a second", func() error { return nil })
	out.Reset()
	show.after(lost.String())
	show.summary()
	want := `
WHAT WAS SHOWN                                                  TOOK  RESULT
they are back within a second                                  0.0 s  ok

PINGS LOST WHILE                                     VM1          VM2
the port in use is pulled                        1 of 27 1100 of 1200

1 of 1 shown in 0 s
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	for line := range strings.Lines(out.String()) {
		if len(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
}
