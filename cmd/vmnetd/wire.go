package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/announce"
	"github.com/vmnetd/vmnetd/config"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/hostlink"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/undo"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/tapdev"
	"github.com/vmnetd/vmnetd/teaming"
	"github.com/vmnetd/vmnetd/uplink"
)

// wire makes the parts of the daemon and connects them. Nothing runs yet when
// it returns.
func wire(ctx context.Context, o serveOptions) (p parts, err error) {
	var opened undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Run())
		}
	}()
	p.close = opened.Run
	ao, err := agentOptions(o)
	if err != nil {
		return p, err
	}
	if err := lockState(o.state, &opened); err != nil {
		return p, err
	}
	if err := aloneOnBus(ctx); err != nil {
		return p, err
	}
	kernel, err := openKernel(&opened)
	if err != nil {
		return p, err
	}
	client, err := openWorld(&ao, kernel, &opened)
	if err != nil {
		return p, err
	}
	a := agent.New(ao)
	s := dbusapi.New(a, dbusapi.Options{RunDir: o.state, Log: o.log})
	p.reload = a.Reload
	p.tasks = []task{
		{name: "agent", run: a.Run, ready: a.Ready()},
		{name: "bus client", run: client.Run},
		{name: "D-Bus", run: after(a.Ready(), s.Run), ready: s.Ready()},
	}
	return p, nil
}

// after starts run once ready is closed: the first call finds every attachment
// looked at.
func after(ready <-chan struct{}, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ready:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// agentOptions is all that comes from the command line, the files and the
// process itself.
func agentOptions(o serveOptions) (agent.Options, error) {
	points, err := failpoint.Parse(os.Getenv(failpoint.Env))
	if err != nil {
		return agent.Options{}, err
	}
	for _, dir := range []string{o.state, o.lib} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return agent.Options{}, vmnetd.Errorf(vmnetd.ErrFailed, "cannot make %s: %w", dir, err).WithNext(whereToWrite(err))
		}
	}
	boot, err := proc.BootID()
	if err != nil {
		return agent.Options{}, err
	}
	machine, err := machineID(o.lib)
	if err != nil {
		return agent.Options{}, err
	}
	return agent.Options{
		Config:   config.New(o.config, dropins(o.config), o.lib),
		StateDir: o.state, LibDir: o.lib, Boot: boot, Machine: machine, Version: buildInfo().Version,
		Log: o.log, FP: points,
		Hypervisor: hypervisor.Ways{
			QMP:     hypervisor.NewQMP(hypervisor.Options{FP: points, Log: o.log}),
			Libvirt: hypervisor.NewLibvirt(hypervisor.LibvirtOptions{FP: points, Log: o.log}),
			Netns:   hypervisor.NewNetns(),
		},
	}, nil
}

// kernel is the network namespace that the daemon was started in.
type kernel struct {
	conn  *rtnl.Conn
	links *rtnl.Watch
}

func openKernel(opened *undo.Stack) (k kernel, err error) {
	if k.conn, err = rtnl.Open(); err != nil {
		return k, err
	}
	opened.Add(k.conn.Close)
	if k.links, err = rtnl.OpenWatch(rtnl.WithAddrs()); err != nil {
		return k, err
	}
	opened.Add(k.links.Close)
	return k, nil
}

// openWorld opens what the agent sees of the kernel and of teamd.
func openWorld(o *agent.Options, k kernel, opened *undo.Stack) (*bus.Client, error) {
	host := tapdev.New(k.conn, k.links, o.FP)
	opened.Add(host.Close)
	announcer, err := announce.Open(announce.WithLog(o.Log))
	if err != nil {
		return nil, err
	}
	opened.Add(announcer.Close)
	client, teams := openTeams(k.conn, o.Log)
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	finder := uplink.New(k.conn, k.links)
	manager, err := uplink.NewManager(uplink.Options{
		Conn: k.conn, Links: k.links, Finder: finder, Teams: teams, Units: units(), LibDir: o.LibDir, RunDir: o.StateDir,
		Root: "/", Program: program, Boot: o.Boot, FP: o.FP, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	filters, err := filter.Open(k.conn)
	if err != nil {
		return nil, err
	}
	opened.Add(filters.Close)
	learner, err := learn.Open(k.conn, o.Log)
	if err != nil {
		return nil, err
	}
	opened.Add(learner.Close)
	rooms := newRooms(k.conn, host, filters, o.StateDir, program, o.Log)
	opened.Add(rooms.Close)
	o.Rooms, o.Filters, o.Learner, o.HostLinks = rooms, filters, learner, hostlink.New(k.conn)
	o.Links, o.Devices, o.Uplinks, o.Announcer, o.Provisioner = k.links, host, finder, announcer, manager
	return client, nil
}

// openTeams connects teams to the bus on which each teamd has a name.
func openTeams(conn *rtnl.Conn, log *slog.Logger) (*bus.Client, *teaming.Teams) {
	var teams *teaming.Teams
	client := bus.NewClient("", log, teaming.BusName, func(name, _ string) { teams.Heard(name) })
	teams = teaming.New(teaming.Options{Conn: conn, Bus: client, BusAddress: bus.Address(), Units: units(), Log: log})
	return client, teams
}

// units is systemd, where it runs.
func units() uplink.Units {
	if bus.SystemdRuns() {
		return bus.Systemd{}
	}
	return nil
}

// lockState keeps a second daemon away from the same state. The lock goes with
// the process, however it ends.
func lockState(dir string, opened *undo.Stack) error {
	path := filepath.Join(dir, "lock")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot open %s: %w", path, err).WithNext(whereToWrite(err))
	}
	opened.Add(func() error { return unix.Close(fd) })
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return vmnetd.Errorf(vmnetd.ErrBusy, "another vmnetd works with %s", dir).WithNext("vmnetd status, or give this one its own --state-dir")
	}
	return err
}

// aloneOnBus keeps a second daemon away from what the first one has made: to
// each, every device with our mark is its own. Where there is no bus yet, there
// is nobody to ask.
func aloneOnBus(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := dbusapi.Dial(ctx)
	if err != nil {
		return nil
	}
	defer c.Close()
	return vmnetd.Errorf(vmnetd.ErrBusy, "another vmnetd serves this bus").WithNext("vmnetd status; to put this one in its place: systemctl stop vmnetd")
}

// whereToWrite is what to do about a folder in which nothing can be made.
func whereToWrite(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "run it as root"
	}
	return "name folders that can be written to: --state-dir DIR --lib-dir DIR"
}

// machineID is what tells this host from others where MACs are derived
// (machine-id(5)); a host without one gets one that is kept in lib.
func machineID(lib string) (string, error) {
	own := filepath.Join(lib, "machine-id")
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id", own} {
		b, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(b)); err == nil && id != "" {
			return id, nil
		}
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), os.WriteFile(own, b, 0o600)
}
