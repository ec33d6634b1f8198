package vmtest

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
)

// newMark is a word that no program prints by chance. The VM puts it around
// what the command prints.
func newMark() string { return "\x1evmtest-" + rand.Text() }

// marked is a stream in which lines of ours, which begin with a mark, stand
// among the output of a command. The mark need not be at a line's beginning.
type marked struct {
	from io.Reader
	mark []byte
	held []byte // read, and not yet known to be output
}

// next copies output to to until a line of ours comes, and returns what that one
// says after the mark. Output is passed on at once; only what could be the
// beginning of a mark waits.
func (m *marked) next(to io.Writer) (string, error) {
	chunk := make([]byte, 32*1024)
	for {
		if before, after, found := bytes.Cut(m.held, m.mark); found {
			if line, rest, whole := bytes.Cut(after, []byte("\n")); whole {
				_, err := to.Write(before)
				m.held = bytes.Clone(rest)
				return strings.TrimSpace(string(line)), err
			}
		} else if err := m.passOn(to); err != nil {
			return "", err
		}
		n, err := m.from.Read(chunk)
		m.held = append(m.held, chunk[:n]...)
		if n == 0 && err != nil {
			_, _ = to.Write(m.held)
			return "", err
		}
	}
}

// passOn writes all but an end that a mark may begin with.
func (m *marked) passOn(to io.Writer) error {
	keep := min(len(m.held), len(m.mark)-1)
	for ; keep > 0; keep-- {
		if bytes.HasPrefix(m.mark, m.held[len(m.held)-keep:]) {
			break
		}
	}
	certain := len(m.held) - keep
	if certain == 0 {
		return nil
	}
	_, err := to.Write(m.held[:certain])
	m.held = append(m.held[:0], m.held[certain:]...)
	return err
}
