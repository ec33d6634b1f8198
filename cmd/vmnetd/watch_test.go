package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func TestWatchJSONIsAnObjectALine(t *testing.T) {
	e := vmnetd.Event{Time: testNow, Event: "attached", VM: "vm1", ID: "net0", Uplink: "u0", Text: "macvtap bridge"}
	f := &fake{past: []vmnetd.Event{e}, live: []vmnetd.Event{e}}
	got := do(t, f, "watch", "--since", "7d", "--json")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%+v", got)
	}
	var back vmnetd.Event
	if err := json.Unmarshal([]byte(lines[1]), &back); err != nil || !back.Time.Equal(e.Time) || back.Text != e.Text {
		t.Errorf("%+v %v", back, err)
	}
	if diff := cmp.Diff([]string{"WatchSince 2026-11-15T12:00:00Z"}, f.calls); diff != "" {
		t.Error(diff)
	}
}

func TestWatchThatIsStoppedEndsWell(t *testing.T) {
	f := &fake{hang: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.hang
		cancel()
	}()
	var out, err bytes.Buffer
	if code := testApp(f, &out, &err).run(ctx, []string{"watch"}); code != 0 || err.Len() > 0 {
		t.Errorf("exit %d, %s", code, err.String())
	}
}

func TestWatchSaysWhenTheDaemonGoes(t *testing.T) {
	f := &fake{err: vmnetd.Errorf(vmnetd.ErrUnreachable, "the daemon has gone")}
	if got := do(t, f, "watch"); got.code != 6 {
		t.Errorf("%+v", got)
	}
}

func TestSinceTakesDays(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "90s": 90 * time.Second, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour} {
		if got, err := parseAgo(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "d", "1.5d", "99999999d"} {
		if got, err := parseAgo(text); err == nil {
			t.Errorf("%q was taken for %v", text, got)
		}
	}
}
