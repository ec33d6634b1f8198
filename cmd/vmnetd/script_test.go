package main

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vmnetd": main})
}

// TestScripts runs the real program on a real bus without a daemon.
func TestScripts(t *testing.T) {
	bus := testkit.StartBus(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // with -race every exit waits a second otherwise
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// exits CODE COMMAND…: the command ends with that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "exit status 0"
	if err != nil {
		got = err.Error()
	}
	if got != "exit status "+args[0] {
		ts.Fatalf("%s: %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}
