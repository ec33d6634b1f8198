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
	lines int // in path; unknown at the start and after a failure
}

const unknown = -1

func newJournal(path string) *journal { return &journal{path: path, lines: unknown} }

func (j *journal) add(e vmnetd.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lines == unknown {
		f, _ := os.Open(j.path)
		j.lines = len(readEvents(f))
		line = append([]byte{'\n'}, line...) // the last line may have been cut short
	}
	if j.lines >= journalKeeps {
		if err := os.Rename(j.path, j.path+".1"); err != nil {
			return err
		}
		j.lines = 0
	}
	if err := appendTo(j.path, line); err != nil {
		j.lines = unknown
		return err
	}
	j.lines++
	return nil
}

func appendTo(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Close())
}

// since gives the events from t on, oldest first, 10,000 at the most.
func (j *journal) since(t time.Time) []vmnetd.Event {
	j.mu.Lock() // not while they are read: whoever has an event to tell would wait
	older, _ := os.Open(j.path + ".1")
	newer, _ := os.Open(j.path)
	j.mu.Unlock()
	all := append(readEvents(older), readEvents(newer)...)
	all = slices.DeleteFunc(all, func(e vmnetd.Event) bool { return e.Time.Before(t) })
	return all[max(0, len(all)-journalKeeps):]
}

// longestEvent is more bytes than any text of ours has.
const longestEvent = 1 << 20

// readEvents reads the file to its end, skips lines that a crash cut short, and
// closes it; nil, where it could not be opened, has none.
func readEvents(f *os.File) []vmnetd.Event {
	if f == nil {
		return nil
	}
	defer f.Close()
	var events []vmnetd.Event
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, longestEvent)
	for scan.Scan() {
		var e vmnetd.Event
		if json.Unmarshal(scan.Bytes(), &e) == nil {
			events = append(events, e)
		}
	}
	return events
}
