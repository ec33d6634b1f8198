package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
)

func texts(events []vmnetd.Event) string {
	var list []string
	for _, e := range events {
		list = append(list, e.Text)
	}
	return strings.Join(list, " ")
}

func TestEventsSinceAreThoseFromThenOnOldestFirst(t *testing.T) {
	j := newJournal(filepath.Join(t.TempDir(), "events"))
	start := time.Now()
	for i := range 4 {
		if err := j.add(vmnetd.Event{Time: start.Add(time.Duration(i) * time.Second), Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := texts(j.since(start.Add(2 * time.Second))); got != "2 3" {
		t.Errorf("since the third: %s", got)
	}
	if got := texts(newJournal(j.path).since(time.Time{})); got != "0 1 2 3" {
		t.Errorf("of another run of the daemon: %s", got)
	}
}

func TestLineThatACrashCutShortCostsNoOtherEvent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	long := strings.Repeat("x", 100_000)
	for _, text := range []string{"before", long} {
		if err := newJournal(path).add(vmnetd.Event{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"time":"2026-`)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	j := newJournal(path)
	for _, text := range []string{"after", "last"} {
		if err := j.add(vmnetd.Event{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	if got := texts(j.since(time.Time{})); got != "before "+long+" after last" {
		t.Errorf("%.200s", got)
	}
}

func TestTenThousandEventsAreKeptAndNoMoreThanTwiceThat(t *testing.T) {
	dir := t.TempDir()
	j := newJournal(filepath.Join(dir, "events"))
	var lines strings.Builder
	for i := range journalKeeps {
		fmt.Fprintf(&lines, "{\"time\":\"2026-01-01T00:00:00Z\",\"text\":\"%d\"}\n", i)
	}
	if err := os.WriteFile(j.path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b"} {
		if err := j.add(vmnetd.Event{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	got := j.since(time.Time{})
	if len(got) != journalKeeps || got[0].Text != "2" || texts(got[len(got)-2:]) != "a b" {
		t.Errorf("%d events from %s to %s", len(got), got[0].Text, got[len(got)-1].Text)
	}
	if f, _ := os.Open(j.path); len(readEvents(f)) != 2 {
		t.Error("the file was not turned over")
	}
}

func TestEventsThatCannotBeWrittenAreStillTold(t *testing.T) {
	w := newWorld()
	w.StartVM("vm1")
	h := newHost(t, w, testConfig())
	a := h.start()
	heard := h.subscribe()
	back := h.noDisk()
	if _, err := a.Attach(t.Context(), Caller{}, vmnetd.Request{VM: "vm1", Network: "no"}); err == nil {
		t.Error("attached to a network that is not there")
	}
	back()
	if n := heard.count("refused") + heard.count("denied"); n != 1 {
		t.Errorf("%d events", n)
	}
	attach(t, a, vmnetd.Request{VM: "vm1"})
	got := slices.DeleteFunc(a.Events(time.Time{}), func(e vmnetd.Event) bool { return e.Event == "failover" }) // the uplink's first look may come last
	if len(got) != 1 || got[0].Event != "attached" {
		t.Errorf("on disk: %+v", got)
	}
	if err := os.Remove(a.journal.path); err != nil {
		t.Fatal(err)
	}
	a.journal.lines = journalKeeps
	if err := a.journal.add(vmnetd.Event{}); err == nil {
		t.Error("no file to turn over, and no error")
	}
}
