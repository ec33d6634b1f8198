package main

import (
	"context"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/room"
)

// roomCommand is the process in another network namespace that the daemon starts;
// nobody else has a use for it, and so help does not show it.
func (a *app) roomCommand() *cobra.Command {
	var (
		o   room.ServeOptions
		try bool
	)
	cmd := &cobra.Command{
		Use:    "room --socket PATH",
		Short:  "Work in a network namespace for the daemon",
		Hidden: true,
		Args:   takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Socket == "" {
				return vmnetd.Errorf(vmnetd.ErrInvalid, "room is for the daemon, with --socket")
			}
			if try {
				return room.Try(cmd.Context(), o)
			}
			return a.room(cmd.Context(), o)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Socket, "socket", "", "where it answers")
	fs.StringVar(&o.Netns, "netns", "", "the path of somebody's namespace that it is in; it ends with its first connection")
	fs.IntVar(&o.Listener, "listener", 0, "the socket's descriptor, from an earlier version")
	fs.BoolVar(&o.Quiet, "quiet", false, "let go of standard error once it listens")
	fs.BoolVar(&try, "try", false, "only say, by the exit code, whether this version could serve so")
	return cmd
}

func (a *app) room(ctx context.Context, o room.ServeOptions) error {
	o.Log = newLog(a.io.err, a.json)
	o.Version = buildInfo().Version
	o.Ready = func() { notify(o.Log, daemon.SdNotifyReady) }
	return room.Serve(context.WithoutCancel(ctx), o)
}
