package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/undo"
)

func TestMistakesOnTheCommandLineSayWhatToDo(t *testing.T) {
	for _, line := range []string{
		"attach vm1 --queues 0", "attach vm1 --mac 52:54", "attach vm1 --mac 01:00:5e:00:00:01", "attach vm1 --mac 00:00:00:00:00:00",
		"attach vm1 --id 0", "attach vm1 --via x", "exec vm1 -- no-such-program {netdev}", "tap-helper vm1 --use-vnet --fd 977",
	} {
		if got := do(t, &fake{}, strings.Fields(line)...); got.code == 0 || !strings.Contains(got.err, "\nnext: ") {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestFolderThatCannotBeWrittenToSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := agentOptions(serveOptions{config: file, state: file + "/state", lib: file + "/lib"})
	if next := vmnetd.NextOf(err); !strings.Contains(next, "--state-dir") {
		t.Errorf("state folder: %v, next %q", err, next)
	}
	var opened undo.Stack
	err = lockState(file, &opened)
	if next := vmnetd.NextOf(errors.Join(err, opened.Run())); !strings.Contains(next, "--state-dir") {
		t.Errorf("lock: %v, next %q", err, next)
	}
	if got := whereToWrite(os.ErrPermission); got != "run it as root" {
		t.Errorf("not root: %q", got)
	}
}

func TestDoctorShowsEveryMistakeOfAConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vmnetd.yaml")
	if err := os.WriteFile(file, []byte("rules: [{vmm: a}]\nuplinks: [{nam: x}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := checkConfig(file)
	got := do(t, &fake{checks: []vmnetd.Check{c}}, "doctor")
	for _, want := range []string{file + ":1:10: ", "      " + file + ":2:12: ", "            1 | rules: [{vmm: a}]\n", "do: mend them, then  vmnetd check " + file} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
}
