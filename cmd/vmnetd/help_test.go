package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestHelpIsWhatIsWrittenDown(t *testing.T) {
	var out, errs bytes.Buffer
	commands := [][]string{{}}
	for _, c := range testApp(&fake{}, &out, &errs).root().Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		commands = append(commands, []string{c.Name()})
		for _, below := range c.Commands() {
			if below.Name() != "help" {
				commands = append(commands, []string{c.Name(), below.Name()})
			}
		}
	}
	for _, c := range commands {
		got := do(t, &fake{}, append([]string{"help"}, c...)...)
		if got.code != 0 || got.err != "" {
			t.Errorf("%v: %+v", c, got)
		}
		golden(t, "help/"+strings.Join(append([]string{"vmnetd"}, c...), "-")+".txt", got.out)
		for _, line := range strings.Split(got.out, "\n") {
			if cells.StringWidth(line) > 80 {
				t.Errorf("help %v: a line of %d columns: %s", c, cells.StringWidth(line), line)
			}
		}
	}
}

func TestHelpHasOneTextByEveryWay(t *testing.T) {
	want := do(t, nil, "help", "attach").out
	for _, args := range [][]string{{"attach", "--help"}, {"attach", "-h"}, {"attach", "vm1", "--help"}} {
		if diff := cmp.Diff(want, do(t, nil, args...).out); diff != "" {
			t.Errorf("%v:\n%s", args, diff)
		}
	}
	if alone, help := do(t, nil), do(t, nil, "--help"); alone != help || alone.out == "" {
		t.Errorf("vmnetd alone: %+v\nvmnetd --help: %+v", alone, help)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: go test ./cmd/vmnetd -run Help -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s:\n%s", path, diff)
	}
}
