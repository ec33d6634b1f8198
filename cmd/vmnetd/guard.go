package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/uplink"
)

// guardOptions is what the daemon gives the guard of an apply on its command
// line; nobody else has a use for them, and so help does not show them.
type guardOptions struct{ at, checkpoint, id, lib, state string }

func (g *guardOptions) flags(fs *pflag.FlagSet) {
	for name, value := range map[string]*string{
		"at": &g.at, "checkpoint": &g.checkpoint, "id": &g.id, "lib-dir": &g.lib, "state-dir": &g.state,
	} {
		fs.StringVar(value, name, "", "")
		_ = fs.MarkHidden(name) // fails for a flag that is not there
	}
}

// guard waits for the end of an apply and undoes it where nobody confirms it.
// It works without the daemon, which may be dead, and ends with the apply.
func (a *app) guard(ctx context.Context, g guardOptions) (err error) {
	at, err := time.Parse(time.RFC3339, g.at)
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "uplink rollback: --at %q is no time such as 2026-01-31T12:00:00Z", g.at)
	}
	if g.checkpoint == "" || g.id == "" || g.lib == "" {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "uplink rollback: --at is for the daemon, with --checkpoint, --id and --lib-dir").
			WithNext("vmnetd uplink rollback  undoes an apply now")
	}
	points, err := failpoint.Parse(os.Getenv(failpoint.Env))
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
	log := newLog(a.io.err, a.json)
	_, teams := openTeams(conn, log)
	err = uplink.RunGuard(ctx, uplink.GuardOptions{
		Conn: conn, Teams: teams, Checkpoint: g.checkpoint, ID: g.id, At: at, LibDir: g.lib, Boot: boot, FP: points, Log: log,
	})
	return errors.Join(err, conn.Close())
}
