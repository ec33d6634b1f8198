package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// manager is systemd's end of NOTIFY_SOCKET.
func manager(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 512)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func waits(ctx context.Context) error { <-ctx.Done(); return nil }

func TestDaemonIsReadyWhenItsTasksAreAndReloadsAndStops(t *testing.T) {
	next := manager(t)
	ready, reloads := make(chan struct{}), 0
	p := parts{
		tasks:  []task{{name: "bus", run: waits, ready: ready}},
		reload: func(context.Context) error { reloads++; return errors.New("line 3 is wrong") },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	hup := make(chan os.Signal, 1)
	hup <- unix.SIGHUP // while it starts
	go func() { done <- p.run(ctx, quiet(), hup) }()
	close(ready)
	if got := next(); got != "READY=1" {
		t.Fatalf("first %q", got)
	}
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("at SIGHUP %q", got)
	}
	if got := next(); got != "READY=1" || reloads != 1 {
		t.Errorf("after a refused reload %q, %d reloads", got, reloads)
	}
	cancel()
	if got := next(); got != "STOPPING=1" {
		t.Errorf("at the end %q", got)
	}
	if err := <-done; err != nil {
		t.Errorf("a clean stop gave %v", err)
	}
}

func TestDaemonEndsWithTheTaskThatFails(t *testing.T) {
	boom := errors.New("boom")
	for name, run := range map[string]func(context.Context) error{
		"fails":          func(context.Context) error { return boom },
		"ends by itself": func(context.Context) error { return nil },
	} {
		p := parts{tasks: []task{{name: "other", run: waits}, {name: "watcher", run: run}}}
		err := p.run(t.Context(), quiet(), nil)
		if err == nil || !strings.Contains(err.Error(), "watcher") || name == "fails" && !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFailureMadeForAnOperatorComesWithoutTheTasksName(t *testing.T) {
	told := vmnetd.Errorf(vmnetd.ErrBusy, "the name is taken").WithNext("stop the other one")
	p := parts{tasks: []task{{name: "D-Bus", run: func(context.Context) error { return told }}}}
	if err := p.run(t.Context(), quiet(), nil); err == nil || err.Error() != "the name is taken" || vmnetd.NextOf(err) != "stop the other one" {
		t.Errorf("got %v", err)
	}
}

func TestJournalGetsAFieldForEveryAttribute(t *testing.T) {
	type sent struct {
		text string
		prio journal.Priority
		vars map[string]string
	}
	var got sent
	log := slog.New(&journalHandler{send: func(m string, p journal.Priority, v map[string]string) error {
		got = sent{m, p, v}
		return nil
	}})
	log.With("vm", "vm1").WithGroup("nic").Warn("gone", "id", "net0", slog.Group("dev", "if-name", "vmn\x1b"))
	want := sent{
		`gone vm=vm1 nic.id=net0 nic.dev.if-name=vmn\x1b`, journal.PriWarning,
		map[string]string{"SYSLOG_IDENTIFIER": "vmnetd", "VMNETD_VM": "vm1", "VMNETD_NIC_ID": "net0", "VMNETD_NIC_DEV_IF_NAME": "vmn\x1b"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error(cmp.Diff(fmt.Sprint(want), fmt.Sprint(got)))
	}
}

func TestServeNamesFilesAbsolutely(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	o := serveOptions{config: "vmnetd.yaml", state: "/run/x", lib: "./lib"}
	if err := o.absolute(); err != nil || o.config != here+"/vmnetd.yaml" || o.state != "/run/x" || o.lib != here+"/lib" {
		t.Errorf("%+v, %v", o, err)
	}
	if err := (&serveOptions{config: "x", state: "", lib: "y"}).absolute(); err == nil {
		t.Error("an empty state folder was taken")
	}
}
