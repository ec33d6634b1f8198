package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Error is one mistake in a configuration file.
type Error struct {
	File string
	Line int    // from 1; 0 when it is about the whole file
	Col  int    // in characters, from 1
	Text string // one sentence, no full stop
	Next string // what to do, "" when there is nothing to say

	source string // the line, for the excerpt
	main   string // the configuration's main file
	cause  error
}

// Error is `file:line:col: text` with the line and a caret below it.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(vmnetd.Printable(e.File))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	b.WriteString(": " + e.Text)
	if e.Line > 0 {
		b.WriteString("\n" + excerpt(e.source, e.Line, e.Col))
	}
	if e.Next != "" {
		b.WriteString("\n        next: " + e.Next)
	}
	return b.String()
}

// Unwrap makes every mistake a vmnetd.ErrInvalid.
func (e Error) Unwrap() []error {
	if e.cause == nil {
		return []error{vmnetd.ErrInvalid}
	}
	return []error{vmnetd.ErrInvalid, e.cause}
}

// Errors is every mistake of a configuration, in the order of its files.
type Errors []Error

func (es Errors) Error() string {
	texts := make([]string, len(es))
	for i, e := range es {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}

// Unwrap gives the single mistakes.
func (es Errors) Unwrap() []error {
	all := make([]error, len(es))
	for i, e := range es {
		all[i] = e
	}
	return all
}

// As gives all of them as one error of vmnetd's, for who wants an error's class
// and what to do next: that is no single mistake's.
func (es Errors) As(target any) bool {
	told, ok := target.(**vmnetd.Error)
	if !ok || len(es) == 0 {
		return false
	}
	*told = vmnetd.Errorf(vmnetd.ErrInvalid, "%s", es.Error()).
		WithNext(fmt.Sprintf("mend them, then  vmnetd check %s && vmnetd reload", es[0].main))
	return true
}

// Render writes err as `check` shows it: every mistake with its line, then how
// many there are; any other error as one sentence and what to do next.
func Render(w io.Writer, err error) {
	if err == nil {
		return
	}
	var es Errors
	if !errors.As(err, &es) {
		_, _ = fmt.Fprintln(w, err)
		if next := vmnetd.NextOf(err); next != "" {
			_, _ = fmt.Fprintln(w, "next: "+next)
		}
		return
	}
	for _, e := range es {
		_, _ = fmt.Fprintf(w, "%s\n\n", e.Error())
	}
	count := "1 mistake"
	if len(es) > 1 {
		count = fmt.Sprintf("%d mistakes", len(es))
	}
	_, _ = fmt.Fprintln(w, count+", nothing changed")
}

const (
	excerptWidth = 66 // with the gutter before it a line fits 80 columns
	excerptLead  = 44 // what is kept before the caret in a line that does not
)

// excerpt shows the line with a caret under col; of a long line the part around
// it. What a terminal would act on is escaped, and the caret moves along.
func excerpt(line string, lineNo, col int) string {
	runes := []rune(line)
	at := max(0, min(col-1, len(runes)))
	from, before, after := 0, "", ""
	if len(runes) > excerptWidth && at > excerptLead {
		from, before = at-excerptLead, "…"
	}
	to := len(runes)
	if to-from > excerptWidth {
		to, after = from+excerptWidth, "…"
	}
	lead := before + vmnetd.Printable(string(runes[from:at]))
	text := lead + vmnetd.Printable(string(runes[at:to])) + after
	return fmt.Sprintf("%7d | %s\n%7s | %s^", lineNo, text, "", strings.Repeat(" ", len([]rune(lead))))
}

// maxMistakes is how many are told: nobody reads more, and they travel in a
// D-Bus reply.
const maxMistakes = 1000

// problems collects mistakes while a configuration is read.
type problems struct {
	main   string // the configuration's main file
	list   []*mistake
	places map[place]bool // of all of them
}

// mistake is an Error on its way.
type mistake struct {
	at    place
	text  string
	next  string
	cause error
}

// do says what to do about it.
func (m *mistake) do(format string, args ...any) {
	m.next = fmt.Sprintf(format, args...)
}

// add notes a mistake at a place; %w is not for it.
func (p *problems) add(at place, format string, args ...any) *mistake {
	m := &mistake{at: at, text: fmt.Sprintf(format, args...)}
	p.list = append(p.list, m)
	if p.places == nil {
		p.places = map[place]bool{}
	}
	p.places[at] = true
	return m
}

// addOnce adds a mistake where none is at that place yet, so that nobody reads
// two sentences about one cause.
func (p *problems) addOnce(at place, format string, args ...any) *mistake {
	if p.places[at] {
		return &mistake{}
	}
	return p.add(at, format, args...)
}

// addErr notes an error of another package at a place, with what it says to do.
func (p *problems) addErr(at place, err error) {
	m := p.add(at, "%s", err.Error())
	m.next, m.cause = vmnetd.NextOf(err), err
}

// errors gives what was collected, by file and line; nil when there is nothing.
func (p *problems) errors() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b *mistake) int {
		return cmp.Or(cmp.Compare(a.at.file.order, b.at.file.order), cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.col, b.at.col))
	})
	var es Errors
	told := map[string]bool{}
	for i, m := range p.list {
		if len(es) == maxMistakes {
			es[maxMistakes-1].Next = fmt.Sprintf("put these right first: there may be %d more", len(p.list)-i)
			break
		}
		e := Error{
			File: m.at.file.path, Line: m.at.line, Col: m.at.col,
			Text: vmnetd.Printable(m.text), Next: vmnetd.Printable(m.next), source: m.at.file.line(m.at.line), cause: m.cause, main: p.main,
		}
		id := fmt.Sprintf("%s:%d:%d %s", e.File, e.Line, e.Col, e.Text)
		if !told[id] {
			es = append(es, e)
		}
		told[id] = true
	}
	return es
}
