package teaming

import (
	"errors"
	"os"
	"strings"
	"sync"

	"github.com/vmnetd/vmnetd"
)

// lastly is what a teamd said last, before it ended.
type lastly struct {
	ended chan struct{} // nothing more will be heard

	mu    sync.Mutex
	lines []string
}

const lastLines = 5

func (l *lastly) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	if len(l.lines) > lastLines {
		l.lines = l.lines[1:]
	}
}

func (l *lastly) error() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 0 {
		return nil
	}
	return errors.New(vmnetd.Printable(strings.Join(l.lines, "; ")))
}

// noise is what every teamd says.
var noise = map[string]bool{"This program is not intended to be run as root.": true}

// hear logs what a teamd says until it ends.
func (t *Teams) hear(team string, from *os.File) *lastly {
	said := &lastly{ended: make(chan struct{})}
	go func() {
		defer close(said.ended)
		defer from.Close()
		line, buf := "", make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil || n == 0 {
				return
			}
			line += string(buf[:n]) // text and line feed come one by one (libdaemon, daemon_logv)
			for {
				text, rest, whole := strings.Cut(line, "\n")
				if !whole {
					break
				}
				line = rest
				if !noise[text] {
					said.add(text)
					t.o.Log.Info("teamd: "+vmnetd.Printable(text), "team", team)
				}
			}
		}
	}()
	return said
}
