package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/config"
)

// exitError ends the program with a code. Without err nothing is printed: what
// there was to say stands on standard output already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// report is an error as --json prints it.
type report struct {
	Error string `json:"error"`
	Name  string `json:"name"`
	Next  string `json:"next"`

	Mistakes []mistake `json:"mistakes,omitempty"` // of a configuration
}

// mistake is one of a configuration's mistakes as --json prints it.
type mistake struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0 when it is about the whole file
	Col  int    `json:"col"`
	Text string `json:"text"`
	Next string `json:"next"`
}

func mistakesOf(err error) []mistake {
	var all config.Errors
	if !errors.As(err, &all) {
		return nil
	}
	list := make([]mistake, len(all))
	for i, e := range all {
		list[i] = mistake{e.File, e.Line, e.Col, e.Text, e.Next}
	}
	return list
}

// finish prints err and gives the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return vmnetd.ExitOK
	}
	if ctx.Err() != nil {
		return a.interrupted()
	}
	code := vmnetd.ClassOf(err).Exit
	var exit *exitError
	if errors.As(err, &exit) {
		code, err = exit.code, exit.err
	}
	if err != nil {
		a.complain(report{err.Error(), vmnetd.ClassOf(err).Name, vmnetd.NextOf(err), mistakesOf(err)})
	}
	return code
}

func (a *app) interrupted() int {
	r := report{Error: "interrupted", Name: "Interrupted"}
	switch {
	case a.undoneAt != "":
		r.Error = "interrupted; the apply is undone at " + a.undoneAt + " unless it is confirmed"
		r.Next = "vmnetd uplink confirm, or at once  vmnetd uplink rollback"
	case a.asked != "":
		r.Error = "interrupted; the daemon goes on with " + a.asked
		r.Next = "see how far it is:  " + orElse(a.seeBy, "vmnetd list")
	}
	a.complain(r)
	return vmnetd.ExitInterrupted
}

// complain writes an error: one sentence (a configuration's mistakes: a line
// each) and what to do next.
func (a *app) complain(r report) {
	if a.json {
		_ = encodeJSON(a.io.err, r, "") // nobody is left to tell
		return
	}
	fmt.Fprintln(a.io.err, "vmnetd: "+printableLines(r.Error))
	if r.Next != "" {
		fmt.Fprintln(a.io.err, "next: "+printableLines(r.Next))
	}
}

// printableLines escapes what a terminal would act on and keeps line breaks
// and, as spaces, tabs: excerpts of a configuration have both.
func printableLines(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = vmnetd.Printable(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}
