package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// serveOptions is where the daemon finds and keeps things.
type serveOptions struct {
	config string // main file; conf.d stands beside it
	state  string // gone at reboot, like the devices it describes
	lib    string // outlives a reboot: what was accepted last
	log    *slog.Logger
}

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Runs the daemon in the foreground; systemd starts it so. SIGHUP reads the
configuration again, SIGTERM ends it and leaves every guest connected, a second
SIGTERM kills it. It logs to the journal when systemd started it, otherwise to
standard error.`,
		Example: `  vmnetd serve
  vmnetd serve --config ./vmnetd.yaml --state-dir /run/try --lib-dir /srv/try`,
		Args: takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.log = newLog(a.io.err, a.json)
			if err := o.absolute(); err != nil {
				return err
			}
			return serve(cmd.Context(), o)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&o.config, "config", defaultConfig, "`FILE` to read; drop-ins in conf.d beside it")
	fs.StringVar(&o.state, "state-dir", "/run/vmnetd", "`DIR` for state and sockets")
	fs.StringVar(&o.lib, "lib-dir", "/var/lib/vmnetd", "`DIR` for what outlives a reboot")
	return cmd
}

// absolute makes every path mean the same to who reads it elsewhere: rules and
// messages name files to people in other directories.
func (o *serveOptions) absolute() error {
	for _, path := range []*string{&o.config, &o.state, &o.lib} {
		if *path == "" {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "serve: --config, --state-dir and --lib-dir must not be empty")
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	return nil
}

// task is one job of the daemon. Run returns nil when ctx ends; any other
// return ends the daemon.
type task struct {
	name  string
	run   func(ctx context.Context) error
	ready <-chan struct{} // closed once others may rely on it; nil: at once
}

// parts is the daemon as wire made it.
type parts struct {
	tasks  []task
	reload func(ctx context.Context) error
	close  func() error // gives back what wire opened; guests and devices stay as they are
}

func serve(ctx context.Context, o serveOptions) error {
	hup := make(chan os.Signal, 1) // before anything else: the signal's default action is death
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	p, err := wire(ctx, o)
	if err != nil {
		return err
	}
	if err := errors.Join(p.run(ctx, o.log, hup), p.close()); err != nil {
		return err
	}
	o.log.Info("stopped, guests stay connected")
	return nil
}

// run runs every task until ctx ends or one of them fails; each hup is a wish
// for a reload.
func (p parts) run(ctx context.Context, log *slog.Logger, hup <-chan os.Signal) error {
	group, ctx := errgroup.WithContext(ctx)
	told := make(chan struct{})
	for _, t := range append(p.tasks, p.readyTask(log, told), p.reloadTask(log, hup, told)) {
		group.Go(func() error { return t.runUnder(ctx, log) })
	}
	return group.Wait()
}

// runUnder runs the task; its end is a failure of the daemon unless ctx ended
// first.
func (t task) runUnder(ctx context.Context, log *slog.Logger) error {
	err := t.run(ctx)
	var plain *vmnetd.Error
	switch {
	case ctx.Err() == nil && err == nil:
		return fmt.Errorf("%s ended by itself", t.name)
	case ctx.Err() == nil && errors.As(err, &plain): // it says to an operator all there is to say
		return err
	case ctx.Err() == nil:
		return fmt.Errorf("%s: %w", t.name, err)
	case err != nil && !errors.Is(err, ctx.Err()):
		log.Error("a part of the daemon did not end well", "task", t.name, "error", err)
	}
	return nil
}

// readyTask tells systemd that clients may come once every task is ready, and
// that the end has begun. It closes told after the first.
func (p parts) readyTask(log *slog.Logger, told chan<- struct{}) task {
	return task{name: "ready", run: func(ctx context.Context) error {
		for _, t := range p.tasks {
			if t.ready == nil {
				continue
			}
			select {
			case <-t.ready:
			case <-ctx.Done():
				return nil
			}
		}
		notify(log, daemon.SdNotifyReady)
		log.Info("ready")
		close(told)
		<-ctx.Done()
		notify(log, daemon.SdNotifyStopping)
		return nil
	}}
}

// reloadTask reads the configuration again at each SIGHUP, once systemd knows
// that the daemon is ready: a reload ends with READY=1 as well. A bad
// configuration is no reason to end. The agent logs how each went.
func (p parts) reloadTask(log *slog.Logger, hup <-chan os.Signal, ready <-chan struct{}) task {
	return task{name: "reload", run: func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hup:
			}
			notify(log, reloading())
			_ = p.reload(ctx)
			notify(log, daemon.SdNotifyReady)
		}
	}}
}

// reloading is what systemd wants of a unit of Type=notify-reload (sd_notify(3)):
// the time of CLOCK_MONOTONIC in microseconds.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return daemon.SdNotifyReloading
	}
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/int64(time.Microsecond))
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot tell systemd how the daemon is", "error", err)
	}
}
