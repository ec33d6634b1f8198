package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
)

// newLog logs to the journal when systemd gave us its stream, otherwise to w:
// text for people, JSON lines when asked.
func newLog(w io.Writer, asJSON bool) *slog.Logger {
	if w == os.Stderr && !asJSON {
		if ok, err := journal.StderrIsJournalStream(); err == nil && ok && journal.Enabled() {
			return slog.New(&journalHandler{send: journal.Send})
		}
	}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
