package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/bus"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/tapdev"
)

func TestTheDaemonsRoomsAreProcessesOfThisProgram(t *testing.T) {
	testkit.Require(t, "netns")
	if bus.SystemdRuns() {
		t.Skip("systemd would run them on this host")
	}
	program, err := exec.LookPath("vmnetd") // the one that TestMain made
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "vmnroom")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ns, other := testkit.NewNetns(t), testkit.NewNetns(t)
	devices := tapdev.New(ns.Conn(), nil, nil)
	t.Cleanup(func() { _ = devices.Close() })
	filters, err := filter.Open(ns.Conn())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filters.Close() })
	rooms := newRooms(ns.Conn(), devices, filters, dir, program, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = rooms.Close() })

	own, err := rooms.Own(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "room.sock")
	pid := listenerOf(t, socket)
	t.Cleanup(func() { kill(t, pid) })
	if name, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns/net")); err != nil || !strings.Contains(own.ID(), strings.Trim(name, "net:[]")) {
		t.Errorf("process %d is in %s, not %s: %v", pid, name, own.ID(), err)
	}
	if c := rooms.Doctor(t.Context()); len(c) != 1 || c[0].Level != vmnetd.LevelOK || !strings.Contains(c[0].Text, "devices in it: 0") || !strings.Contains(c[0].Text, fmt.Sprintf("nsenter --net=/proc/%d/ns/net ", pid)) {
		t.Errorf("doctor: %+v", c)
	}
	there, err := rooms.At(t.Context(), other.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Kill(pid, unix.SIGINT), unix.Kill(pid, unix.SIGTERM), there.Close()); err != nil {
		t.Error(err)
	}
	if _, err := own.Ours(t.Context()); err != nil || !there.NS().Same(other.NS()) {
		t.Errorf("after the signals of a terminal: %v", err)
	}
}

func TestRoomIsForTheDaemon(t *testing.T) {
	if got := do(t, nil, "room"); got.code != 2 || !strings.Contains(got.err, "--socket") {
		t.Errorf("%+v", got)
	}
	if got := do(t, nil, "room", "--socket", "/nowhere", "--listener", "1000000", "--try"); got.code == 0 || !strings.Contains(got.err, "listener") {
		t.Errorf("without a listener it cannot take over: %+v", got)
	}
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	if got := do(t, nil, "room", "--socket", path, "--listener", strconv.Itoa(fd), "--try"); got.code != 0 || got.out+got.err != "" {
		t.Errorf("another version cannot know that this one takes over: %+v", got)
	}
}

// listenerOf is the process that listens at a socket.
func listenerOf(t *testing.T, socket string) int {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		t.Fatal("no unix socket")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return int(cred.Pid)
}

func kill(t *testing.T, pid int) {
	p, err := proc.Open(pid, 0)
	if err != nil {
		return
	}
	defer p.Close()
	if err := errors.Join(p.Kill(), p.Wait(t.Context())); err != nil && t.Context().Err() == nil {
		t.Error(err)
	}
}
