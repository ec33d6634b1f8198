package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
)

func TestWhoDoesNotAnswerIsToldThatItIsUndone(t *testing.T) {
	term := newTerminal(t, within())
	ended := make(chan int, 1)
	go func() { ended <- term.run(t.Context(), []string{"uplink", "apply"}) }()
	<-term.waits
	term.now = term.now.Add(time.Minute)
	term.passed <- term.now
	if code := <-ended; code != 1 || !strings.Contains(term.err.String(), "vmnetd: nobody confirmed, it is undone\nnext: vmnetd status") {
		t.Errorf("exit %d: %s", code, term.err.String())
	}
}

func TestInterruptedWhileItWaitsSaysWhenItIsUndone(t *testing.T) {
	f := within()
	term := newTerminal(t, f)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- term.run(ctx, []string{"uplink", "apply"}) }()
	<-term.waits
	interrupt()
	if code := <-ended; code != vmnetd.ExitInterrupted || !strings.Contains(term.err.String(), "interrupted; the apply is undone at 12:01:00 unless it is confirmed\nnext: vmnetd uplink confirm") {
		t.Errorf("exit %d: %s", code, term.err.String())
	}
	if len(f.calls) != 2 {
		t.Errorf("asked %v", f.calls)
	}
}

func TestATerminalThatGoesAwayIsNoAnswer(t *testing.T) {
	f := within()
	term := newTerminal(t, f)
	ended := make(chan int, 1)
	go func() { ended <- term.run(t.Context(), []string{"uplink", "apply"}) }()
	<-term.waits
	term.keys.Close()
	if code := <-ended; code != 0 || !strings.HasSuffix(term.out.String(), "\napplied; it is undone at 12:01:00 unless you type  vmnetd uplink confirm\n") {
		t.Errorf("exit %d: %s%s", code, term.out.String(), term.err.String())
	}
	if len(f.calls) != 2 {
		t.Errorf("asked %v", f.calls)
	}
}

func TestWithoutATerminalApplySaysWhatMustBeTyped(t *testing.T) {
	t.Setenv("TZ", "UTC")
	f := within()
	got := do(t, f, "uplink", "apply")
	if want := "  team0 made\n  eno1 is a port of team0\napplied; it is undone at 12:01:00 unless you type  vmnetd uplink confirm\n"; got.code != 0 || got.out != want || len(f.calls) != 1 {
		t.Errorf("%v %+v", f.calls, got)
	}
	f.applied.Until = time.Time{}
	if got := do(t, f, "uplink", "apply"); !strings.HasSuffix(got.out, "applied, and it stays\n") {
		t.Errorf("%+v", got)
	}
	var applied vmnetd.Applied
	if err := json.Unmarshal([]byte(do(t, f, "uplink", "apply", "--json").out), &applied); err != nil || applied.ID != "a7" {
		t.Errorf("%+v, %v", applied, err)
	}
}

func TestOnATerminalAPlanWithProblemsIsNotSentOff(t *testing.T) {
	f := within()
	f.plan.Problems = []vmnetd.Check{{Name: "eno1", Text: "has a macvtap"}, {Name: "eno2", Text: "has another master"}}
	term := newTerminal(t, f)
	code := term.run(t.Context(), []string{"uplink", "apply"})
	if code != 5 || !strings.Contains(term.err.String(), "vmnetd: 2 problems, nothing changed\nnext: when they are solved:  vmnetd uplink apply\n") || len(f.calls) != 1 {
		t.Errorf("exit %d, asked %v: %s", code, f.calls, term.err.String())
	}
	f.calls, f.err = nil, errors.New("refused")
	if code := do(t, f, "uplink", "apply", "--force").code; code != 1 || len(f.calls) != 1 {
		t.Errorf("exit %d, asked %v", code, f.calls)
	}
}
