package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DaemonOptions says which `vmnetd serve` is started.
type DaemonOptions struct {
	Program string // the built binary
	Dir     string // holds vmnetd.yaml, which must be there, and state/, lib/ and notify, which are made
	Bus     string // address
	Netns   func(func() error) error
	Env     []string // more of it
	Wrap    []string // a command that the daemon's is given to, and that becomes it
}

// Daemon is a `vmnetd serve` that ends with this process.
type Daemon struct {
	PID int

	cmd   *exec.Cmd
	log   Output
	ended chan struct{}
	err   error // of Wait; read it after ended is closed
}

// StartDaemon starts the daemon and returns when it says, as to systemd, that it
// is ready (sd_notify(3)). The caller ends it.
func StartDaemon(ctx context.Context, o DaemonOptions) (*Daemon, error) {
	path := filepath.Join(o.Dir, "notify")
	_ = os.Remove(path)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	o.Env = append(o.Env, "NOTIFY_SOCKET="+path)
	d, err := LaunchDaemon(o)
	if err != nil {
		return nil, err
	}
	if err := d.waitReady(ctx, notify); err != nil {
		d.Kill()
		return nil, fmt.Errorf("vmnetd serve is not ready: %w\n%s", err, d.Log())
	}
	return d, nil
}

// LaunchDaemon starts the daemon and does not wait for it.
func LaunchDaemon(o DaemonOptions) (*Daemon, error) {
	d := &Daemon{ended: make(chan struct{})}
	argv := append(slices.Clone(o.Wrap), o.Program, "serve", "--config", filepath.Join(o.Dir, "vmnetd.yaml"),
		"--state-dir", filepath.Join(o.Dir, "state"), "--lib-dir", filepath.Join(o.Dir, "lib"))
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Env = append(append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+o.Bus), o.Env...)
	d.cmd.Stderr = &d.log
	// A group of its own: a terminal's Ctrl-C is for who started us, and the
	// daemon ends last.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go d.live(o.Netns, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", o.Program, err)
	}
	d.PID = d.cmd.Process.Pid
	return d, nil
}

// live starts the daemon and stays with it: Pdeathsig comes when the thread that
// started the child ends (prctl(2)).
func (d *Daemon) live(inside func(func() error) error, started chan<- error) {
	defer close(d.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := false
	err := inside(func() error {
		if err := d.cmd.Start(); err != nil {
			return err
		}
		begun = true
		started <- nil
		d.err = d.cmd.Wait()
		return nil
	})
	if !begun {
		started <- err
	}
}

func (d *Daemon) waitReady(ctx context.Context, notify *net.UnixConn) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = notify.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	go func() {
		select {
		case <-d.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		if strings.Contains(string(buf[:n]), "READY=1") {
			return nil
		}
	}
}

// Ended is closed when the daemon has ended.
func (d *Daemon) Ended() <-chan struct{} { return d.ended }

// Err is how the daemon ended, once it has.
func (d *Daemon) Err() error { return d.err }

// Log is what the daemon has logged.
func (d *Daemon) Log() string { return d.log.String() }

// Signal sends the daemon a signal.
func (d *Daemon) Signal(sig syscall.Signal) { _ = d.cmd.Process.Signal(sig) }

// Killed says whether it was SIGKILL that ended the daemon.
func (d *Daemon) Killed() bool {
	ws, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// Kill ends the daemon as abruptly as it gets.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// Wait waits until the daemon has ended by itself, and kills it when it does not
// within limit.
func (d *Daemon) Wait(limit time.Duration) error {
	select {
	case <-d.ended:
		return nil
	case <-time.After(limit):
		d.Kill()
		return fmt.Errorf("the daemon did not end within %s\n%s", limit, d.Log())
	}
}

// Stop ends the daemon as systemd does.
func (d *Daemon) Stop() error {
	d.Signal(syscall.SIGTERM)
	if err := d.Wait(Patience); err != nil {
		return err
	}
	if d.err != nil {
		return fmt.Errorf("%w\n%s", d.err, d.Log())
	}
	return nil
}

// Output collects what a program says; it can be read while the program goes on.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Output) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Output) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
