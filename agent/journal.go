package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
)

// journalKeeps is how many events `watch --since` can go back at least.
const journalKeeps = 10_000

// journal keeps the last events in a file of JSON lines and the ones before
// them in FILE.1.
type journal struct {
	path string

	mu    sync.Mutex
	lines int // in path; -1: not counted yet
}

func newJournal(path string) *journal { return &journal{path: path, lines: -1} }

func (j *journal) add(e vmnetd.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lines < 0 {
		j.lines = len(readEvents(j.path))
	}
	if j.lines >= journalKeeps {
		if err := os.Rename(j.path, j.path+".1"); err != nil {
			return err
		}
		j.lines = 0
	}
	f, err := os.OpenFile(j.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	j.lines++
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// since gives the events from t on, oldest first, 10,000 at the most.
func (j *journal) since(t time.Time) []vmnetd.Event {
	j.mu.Lock()
	all := append(readEvents(j.path+".1"), readEvents(j.path)...)
	j.mu.Unlock()
	all = slices.DeleteFunc(all, func(e vmnetd.Event) bool { return e.Time.Before(t) })
	return all[max(0, len(all)-journalKeeps):]
}

// readEvents skips lines that a crash cut short.
func readEvents(path string) []vmnetd.Event {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var events []vmnetd.Event
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var e vmnetd.Event
		if json.Unmarshal(scan.Bytes(), &e) == nil {
			events = append(events, e)
		}
	}
	return events
}
