package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/teaming"
)

// TestMain is also the two programs that the tests run: the guard, by its
// command line, and a daemon that can be killed in the middle of an apply.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "uplink" && os.Args[2] == "rollback":
		exit(guardMain(os.Args[3:]))
	case os.Getenv(daemonEnv) != "":
		exit(daemonMain(os.Getenv(daemonEnv)))
	}
	testkit.LeakCheck(m)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func guardMain(args []string) error {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	at, err := time.Parse(time.RFC3339, flags["--at"])
	if err != nil {
		return err
	}
	boot, err := proc.BootID()
	if err != nil {
		return err
	}
	conn, err := rtnl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	return RunGuard(context.Background(), GuardOptions{
		Conn: conn, Teams: teaming.New(teaming.Options{Conn: conn}), Checkpoint: flags["--checkpoint"], ID: flags["--id"], At: at,
		LibDir: flags["--lib-dir"], Boot: boot, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

// daemonEnv holds what the daemon of a test is to do.
const daemonEnv = "UPLINK_TEST_DAEMON"

// order is an apply or, with Confirm or Rollback, the end of one.
type order struct {
	Lib      string
	Specs    []Spec
	Options  vmnetd.ApplyOptions
	Confirm  bool
	Rollback bool
}

func daemonMain(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	points, err := failpoint.Parse(os.Getenv(failpoint.Env))
	if err != nil {
		return err
	}
	watch, err := rtnl.OpenWatch()
	if err != nil {
		return err
	}
	conn, err := rtnl.Open()
	if err != nil {
		return err
	}
	if err := watch.Sync(context.Background()); err != nil {
		return err
	}
	m, err := newTestManager(conn, watch, o.Lib, func(m *Options) { m.FP = points })
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := m.Apply(ctx, o.Specs, o.Options); err != nil {
		return err
	}
	switch {
	case o.Confirm:
		return m.Confirm(ctx, "")
	case o.Rollback:
		return m.Rollback(ctx, "")
	}
	return nil
}

func newTestManager(conn *rtnl.Conn, watch *rtnl.Watch, lib string, change func(*Options)) (*Manager, error) {
	boot, err := proc.BootID()
	if err != nil {
		return nil, err
	}
	o := Options{
		Conn: conn, Links: watch, Finder: New(conn, watch), Teams: teaming.New(teaming.Options{Conn: conn}), LibDir: lib, RunDir: lib, Root: lib + "/root",
		Program: os.Args[0], Boot: boot, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	change(&o)
	return NewManager(o)
}
