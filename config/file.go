package config

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vmnetd/vmnetd/policy"
)

// file is a configuration file as it was read.
type file struct {
	path  string // as it was opened: for messages
	name  string // short, for explain: conf.d/30-rules.yaml
	order int    // among the files of the configuration; 0 is the main file
	text  string // with \n line ends and no byte order mark
	lines []string
}

func newFile(path, name string, order int, content string) *file {
	text := strings.TrimPrefix(content, "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return &file{path: path, name: name, order: order, text: text, lines: strings.Split(text, "\n")}
}

// line is the text of a line, from 1; "" when there is no such line.
func (f *file) line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return f.lines[n-1]
}

// at is a place in the file, drawn into it should the YAML library be off.
func (f *file) at(line, col int) place {
	line = max(1, min(line, len(f.lines)))
	col = max(1, min(col, utf8.RuneCountInString(f.line(line))+1))
	return place{file: f, line: line, col: col}
}

// whole stands for the file itself.
func (f *file) whole() place { return place{file: f} }

// place is where something is written.
type place struct {
	file *file
	line int
	col  int
}

// pos is the place in the words of the policy.
func (p place) pos() policy.Pos {
	if p.file == nil {
		return policy.Pos{}
	}
	return policy.Pos{File: p.file.name, Line: p.line, Col: p.col}
}

// String is file:line, to point from one message to another place.
func (p place) String() string { return fmt.Sprintf("%s:%d", p.file.path, p.line) }
