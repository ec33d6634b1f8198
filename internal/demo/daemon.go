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
	"strings"
	"syscall"
	"time"
)

// stopLimit is how long the daemon may take to end after SIGTERM.
const stopLimit = 10 * time.Second

// daemon is a running `vmnetd serve`.
type daemon struct {
	cmd   *exec.Cmd
	log   string // path
	ended chan struct{}
	err   error // of Wait; valid after ended
}

// startDaemon returns when the daemon says that it is ready.
func startDaemon(ctx context.Context, s *scope, st *stage) *daemon {
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(st.dir, "notify"), Net: "unixgram"})
	if err != nil {
		s.Fatalf("%v", err)
	}
	defer notify.Close()
	d := &daemon{log: filepath.Join(st.dir, "log"), ended: make(chan struct{})}
	d.cmd = exec.Command(st.program, "serve",
		"--config", st.config(), "--state-dir", filepath.Join(st.dir, "run"), "--lib-dir", filepath.Join(st.dir, "lib"))
	d.cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+st.bus, "NOTIFY_SOCKET="+notify.LocalAddr().String())
	// A group of its own: the terminal's Ctrl-C is for the demo, which ends the
	// daemon last.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := d.start(st.host.Do); err != nil {
		s.Fatalf("cannot start %s: %v", st.program, err)
	}
	s.Cleanup(func() { _ = d.stop() })
	if err := d.waitReady(ctx, notify); err != nil {
		s.Fatalf("vmnetd serve is not ready: %v\n%s", err, d.tail())
	}
	return d
}

func (d *daemon) start(inside func(func() error) error) error {
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	d.cmd.Stderr = log
	started := make(chan error, 1)
	go func() {
		defer close(d.ended)
		defer log.Close()
		// Pdeathsig comes when the thread that started the child ends (prctl(2)).
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
	}()
	return <-started
}

func (d *daemon) waitReady(ctx context.Context, notify *net.UnixConn) error {
	stop := context.AfterFunc(ctx, func() { _ = notify.SetReadDeadline(time.Now()) })
	defer stop()
	go func() {
		<-d.ended
		_ = notify.SetReadDeadline(time.Now())
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

// stop ends the daemon as systemd would; the second call does nothing.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(stopLimit):
		_ = d.cmd.Process.Kill()
		<-d.ended
		return fmt.Errorf("did not end within %s of SIGTERM\n%s", stopLimit, d.tail())
	}
	if d.err != nil {
		return fmt.Errorf("%w\n%s", d.err, d.tail())
	}
	return nil
}

func (d *daemon) tail() string {
	content, _ := os.ReadFile(d.log)
	return string(content[max(0, len(content)-3000):])
}
