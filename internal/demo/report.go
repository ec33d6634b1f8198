package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// report prints what happens, with the time since the start, and remembers how
// each claim came out.
type report struct {
	out    io.Writer
	color  bool
	start  time.Time
	claims []claim
	more   string // after the table of claims
}

// claim is one line of the summary.
type claim struct {
	text string
	took time.Duration
	err  error
}

func newReport(out io.Writer) *report {
	color := term.IsTerminal(unix.Stdout) && os.Getenv("NO_COLOR") == ""
	return &report{out: out, color: color, start: time.Now()}
}

// note prints a line of progress.
func (r *report) note(format string, args ...any) {
	fmt.Fprintf(r.out, "%6.1f s  %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, args...))
}

// quote prints what a program said, set off from our own words.
func (r *report) quote(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(r.out, "          | %s\n", strings.TrimRight(line, "\n"))
	}
}

// check runs f, which proves the claim or says why not, and returns its error.
func (r *report) check(text string, f func() error) error {
	began := time.Now()
	err := f()
	r.claims = append(r.claims, claim{text: text, took: time.Since(began), err: err})
	if err != nil {
		r.note("%s  %s", r.paint("31;1", "FAILED"), text)
		r.quote(err.Error())
		return err
	}
	r.note("%s  %s", r.paint("32", "ok"), text)
	return nil
}

func (r *report) failed() bool { return r.firstError() != nil }

func (r *report) firstError() error {
	var all []error
	for _, c := range r.claims {
		all = append(all, c.err)
	}
	return errors.Join(all...)
}

// after has a text printed below the table of claims.
func (r *report) after(text string) { r.more = text }

// summary prints all claims once more as a table.
func (r *report) summary() {
	fmt.Fprintf(r.out, "\n%-60s %7s  %s\n", "WHAT WAS SHOWN", "TOOK", "RESULT")
	bad := 0
	for _, c := range r.claims {
		result := r.paint("32", "ok")
		if c.err != nil {
			result, bad = r.paint("31;1", "FAILED"), bad+1
		}
		fmt.Fprintf(r.out, "%-60s %5.1f s  %s\n", c.text, c.took.Seconds(), result)
	}
	if r.more != "" {
		fmt.Fprintf(r.out, "\n%s", r.more)
	}
	fmt.Fprintf(r.out, "\n%d of %d shown in %.0f s\n", len(r.claims)-bad, len(r.claims), time.Since(r.start).Seconds())
}

func (r *report) paint(code, text string) string {
	if !r.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
