package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const config = `uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
hypervisors: {libvirt: {uri: "URI"}, qmp: {sockets: ["DIR/{vm}.sock"]}}
`

// daemon is a running `vmnetd serve` with a bus of its own.
type daemon struct {
	program string
	qmp     string // folder of the VMs' sockets
	bus     string // its address
	state   string // folder
	client  *dbusapi.Client
	process *process
}

// startDaemon starts one that asks the libvirtd at uri, "none" for none.
func startDaemon(s *scope, h *host, program, uri string) *daemon {
	d := newDaemon(s, program)
	d.start(s, h, uri)
	return d
}

// newDaemon is one that has a bus and does not run yet.
func newDaemon(s *scope, program string) *daemon {
	dir := s.TempDir()
	d := &daemon{program: program, qmp: filepath.Join(dir, "qmp"), bus: testkit.StartBus(s)}
	s.must(os.Mkdir(d.qmp, 0o700))
	return d
}

// env is where the daemon and its commands find its bus.
func (d *daemon) env() []string { return append(os.Environ(), busVariable+"="+d.bus) }

const busVariable = "DBUS_SYSTEM_BUS_ADDRESS"

func (d *daemon) start(s *scope, h *host, uri string) {
	file := filepath.Join(filepath.Dir(d.qmp), "vmnetd.yaml")
	s.must(os.WriteFile(file, []byte(strings.NewReplacer("DIR", d.qmp, "URI", uri).Replace(config)), 0o600))
	s.must(os.Setenv(busVariable, d.bus)) // the client in this process finds the bus so
	d.state = stateDir(s)
	d.run(s, h)
}

// run starts the process and waits until it is ready.
func (d *daemon) run(s *scope, h *host) {
	dir := filepath.Dir(d.qmp)
	address := filepath.Join(dir, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	s.must(err)
	defer os.Remove(address)
	defer notify.Close()
	cmd := exec.Command(d.program, "serve", "--config", filepath.Join(dir, "vmnetd.yaml"), "--state-dir", d.state, "--lib-dir", filepath.Join(dir, "lib"))
	cmd.Env = append(d.env(), "NOTIFY_SOCKET="+notify.LocalAddr().String())
	d.process, err = startProcess(cmd, h.Do)
	s.must(err)
	s.Cleanup(d.process.kill)
	s.must(d.waitReady(s.ctx, notify))
	d.client, err = dbusapi.Dial(s.ctx)
	s.must(err)
	s.Cleanup(func() { _ = d.client.Close() })
}

func (d *daemon) waitReady(ctx context.Context, notify *net.UnixConn) error {
	stop := context.AfterFunc(ctx, func() { _ = notify.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = notify.SetReadDeadline(time.Now().Add(testkit.Patience))
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return fmt.Errorf("vmnetd serve is not ready: %w\n%s", err, d.process.said())
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return nil
		}
	}
}

// byAPI attaches and detaches with a connection that is open already.
type byAPI struct {
	d      *daemon
	vm, id string
	via    string
}

func (a byAPI) attach(ctx context.Context, queues int) (time.Duration, error) {
	began := time.Now()
	att, err := a.d.client.Attach(ctx, vmnetd.Request{VM: a.vm, ID: a.id, Via: a.via, Queues: queues})
	took := time.Since(began)
	if err == nil && (att.Phase != vmnetd.Attached || att.Queues != queues) {
		err = fmt.Errorf("%s is %s with %d queues: %s", att.FullName(), att.Phase, att.Queues, att.Problem)
	}
	return took, err
}

func (a byAPI) detach(ctx context.Context, _ int) (time.Duration, error) {
	began := time.Now()
	left, err := a.d.client.Detach(ctx, a.vm, agent.Selector{ID: a.id})
	took := time.Since(began)
	if err == nil && (len(left) != 1 || left[0].Problem != "") {
		err = fmt.Errorf("not detached: %+v", left)
	}
	return took, err
}

// byCommand runs `vmnetd attach` and `vmnetd detach`.
type byCommand struct {
	d      *daemon
	vm, id string
	flags  []string // of attach
}

func (c byCommand) attach(ctx context.Context, queues int) (time.Duration, error) {
	return timedIn(ctx, c.d.env(), c.d.program, append([]string{"attach", c.vm, "--id", c.id, "--queues", strconv.Itoa(queues)}, c.flags...)...)
}

func (c byCommand) detach(ctx context.Context, _ int) (time.Duration, error) {
	return timedIn(ctx, c.d.env(), c.d.program, "detach", c.vm, "--id", c.id)
}

// timed is how long a program takes from its start to its end.
func timed(ctx context.Context, name string, args ...string) (time.Duration, error) {
	return timedIn(ctx, os.Environ(), name, args...)
}

func timedIn(ctx context.Context, env []string, name string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.String())
	}
	return took, err
}

// process is a program that ends with this one.
type process struct {
	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{}
}

// startProcess starts cmd inside. Pdeathsig comes when the thread that started
// the child ends (prctl(2)), so that stays with it.
func startProcess(cmd *exec.Cmd, inside func(func() error) error) (*process, error) {
	log, err := os.CreateTemp("", "vmnetd-bench-log-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(log.Name())
	p := &process{cmd: cmd, log: log, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGKILL, true
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := inside(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				_ = cmd.Wait()
			}
			return err
		})
		select {
		case started <- errors.Join(err, errors.New("not started")):
		default:
		}
	}()
	return p, <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.log.Close()
}

// said is the end of what it printed.
func (p *process) said() string {
	b := make([]byte, 64<<10)
	n, _ := p.log.ReadAt(b, 0)
	return string(b[:n])
}
