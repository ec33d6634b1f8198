package main

import (
	"context"
	"os"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/tapdev"
)

// localChecks is what doctor finds out without the daemon.
func localChecks(ctx context.Context) []vmnetd.Check {
	if os.Geteuid() != 0 {
		return []vmnetd.Check{{Level: vmnetd.LevelWarn, Name: "kernel", Text: "not looked at: without the daemon that takes root", Do: "sudo vmnetd doctor"}}
	}
	conn, err := rtnl.Open()
	if err != nil {
		return []vmnetd.Check{{Level: vmnetd.LevelFail, Name: "netlink", Text: err.Error()}}
	}
	defer conn.Close()
	host := tapdev.New(conn, nil, nil)
	defer host.Close()
	return host.Doctor(ctx)
}
