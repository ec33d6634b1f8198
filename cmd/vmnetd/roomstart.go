package main

import (
	"log/slog"

	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/room"
	"github.com/vmnetd/vmnetd/tapdev"
)

// newRooms makes the daemon's way into other network namespaces. program is ours,
// absolute.
func newRooms(conn *rtnl.Conn, devices *tapdev.Host, filters *filter.Host, runDir, program string, log *slog.Logger) *room.Rooms {
	return room.New(room.Options{
		RunDir: runDir, Conn: conn, Devices: devices, Filters: filters,
		Starter: roomStarter(program), Program: program, Version: buildInfo().Version, Log: log,
	})
}

// roomStarter is systemd, where it runs: the daemon's unit may neither make nor enter
// a namespace.
func roomStarter(program string) room.Starter {
	if bus.SystemdRuns() {
		return room.Units{Program: program}
	}
	return room.Child{Program: program}
}
