package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// stdio is where a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	width    int // columns of the terminal that out is, 0 when it is none
	color    bool
	answers  bool // in is a terminal, too: somebody may answer
}

// systemStdio is the process's own. It asks about descriptor 1 by number:
// (*os.File).Fd would set blocking mode on a description that others share.
func systemStdio() stdio {
	s := stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if !term.IsTerminal(1) {
		return s
	}
	s.answers = term.IsTerminal(0)
	s.width = 80
	if w, _, err := term.GetSize(1); err == nil && w > 0 {
		s.width = w
	}
	s.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// Colours (ECMA-48, select graphic rendition).
const (
	bold   = "1"
	red    = "31"
	yellow = "33"
	green  = "32"
)

// paint colours text where out is a terminal that may be coloured.
func (s stdio) paint(color, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// output remembers that something could not be written, so that a full disk
// behind a redirection is no success.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}
