package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"time"
)

// report reads what comes out of the VM and prints of it what go test would.
type report struct {
	mark    string
	suites  []suite
	verbose bool
	out     io.Writer

	rest    []byte // a line that has only begun
	current int    // which suite runs, -1 between two
	output  bytes.Buffer
	began   time.Time
	tally   tally
	results []result
}

// tally is how many tests of a suite came to which end.
type tally struct{ passed, failed, skipped int }

// result is one suite's end.
type result struct {
	line string // as go test prints it
	ok   bool
}

func newReport(list []suite, verbose bool, out io.Writer) *report {
	return &report{mark: "vmtier-" + rand.Text(), suites: list, verbose: verbose, out: out, current: -1}
}

// Write takes the next piece of what the VM prints.
func (r *report) Write(p []byte) (int, error) {
	r.rest = append(r.rest, p...)
	for {
		line, rest, whole := bytes.Cut(r.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		r.line(string(line))
		r.rest = rest
	}
}

func (r *report) line(line string) {
	var n int
	word, ours := strings.CutPrefix(line, r.mark+" ")
	switch {
	case !ours:
		r.outputLine(line)
	case scans(word, "begin %d", &n):
		r.current, r.began, r.tally = n, time.Now(), tally{}
		r.output.Reset()
	case scans(word, "end %d", &n):
		r.end(n)
	}
}

func scans(line, format string, n *int) bool {
	_, err := fmt.Sscanf(line, format, n)
	return err == nil
}

func (r *report) outputLine(line string) {
	if r.verbose && r.current >= 0 {
		fmt.Fprintln(r.out, line)
	}
	r.output.WriteString(line + "\n")
	switch trimmed := strings.TrimLeft(line, " "); {
	case strings.HasPrefix(trimmed, "--- PASS: "):
		r.tally.passed++
	case strings.HasPrefix(trimmed, "--- FAIL: "):
		r.tally.failed++
	case strings.HasPrefix(trimmed, "--- SKIP: "):
		r.tally.skipped++
	}
}

// end closes a suite. A test that was skipped has failed: the VM is there so that
// all can run.
func (r *report) end(code int) {
	s := r.suites[r.current]
	why := ""
	switch {
	case code != 0:
		why = fmt.Sprintf("exit code %d", code)
		if code == timedOut || code == killed {
			why = "killed: it went on after its time limit"
		}
	case r.tally.skipped > 0:
		why = fmt.Sprintf("%d skipped", r.tally.skipped)
	case r.tally.passed < len(s.names):
		why = fmt.Sprintf("%d of %d tests ran", r.tally.passed, len(s.names))
	}
	r.close(why)
}

// What timeout(1) ends with.
const (
	timedOut = 124
	killed   = 137
)

// close prints how a suite ended; why is "" when it passed.
func (r *report) close(why string) {
	s := r.suites[r.current]
	took := time.Since(r.began).Seconds()
	if why != "" && !r.verbose {
		_, _ = io.Copy(r.out, &r.output)
	}
	line := fmt.Sprintf("ok  \t%s\t%.3fs\t(%d passed)", s.path, took, r.tally.passed)
	if why != "" {
		line = fmt.Sprintf("FAIL\t%s\t%.3fs\t(%s)", s.path, took, why)
	}
	fmt.Fprintln(r.out, line)
	r.results = append(r.results, result{line: line, ok: why == ""})
	r.current = -1
}

// finish closes a suite that the VM did not live to end, and names those that
// it did not come to.
func (r *report) finish() {
	if r.current >= 0 {
		r.output.Write(r.rest)
		r.close("the VM ended")
	}
	for _, s := range r.suites[len(r.results):] {
		line := fmt.Sprintf("FAIL\t%s\t(not run)", s.path)
		fmt.Fprintln(r.out, line)
		r.results = append(r.results, result{line: line})
	}
	if r.failed() {
		fmt.Fprintln(r.out, "FAIL")
	}
}

func (r *report) failed() bool {
	for _, result := range r.results {
		if !result.ok {
			return true
		}
	}
	return false
}
