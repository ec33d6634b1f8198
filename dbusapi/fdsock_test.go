package dbusapi

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func tapFake(queues, vhost int) *fake {
	return &fake{queues: func() (*queuefd.Set, error) {
		return &queuefd.Set{Queues: eventfds(queues), VHost: eventfds(vhost), VHostReason: "r"}, nil
	}}
}

func TestQueuesReachTheCallerAndTheOwnerIsTheCaller(t *testing.T) {
	for _, n := range []struct{ queues, vhost int }{{1, 0}, {4, 4}, {256, 256}} {
		f := tapFake(n.queues, n.vhost)
		owners := make(chan agent.Owner, 1)
		f.claimed = func(_ []byte, o agent.Owner, err error) {
			if err != nil {
				t.Errorf("done(%v)", err)
			}
			owners <- o
		}
		c, _ := pair(t, f)
		before := len(openFDs())
		a, set, err := c.OpenTap(t.Context(), vmnetd.Request{VM: "vm1"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if a.FullName() != "vm1/net0" || len(set.Queues) != n.queues || len(set.VHost) != n.vhost || set.VHostReason != "r" {
			t.Errorf("%s: %d queues, %d vhost", a.FullName(), len(set.Queues), len(set.VHost))
		}
		for _, fd := range set.All() {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Fatalf("fd %d: flags %#x, %v", fd, flags, err)
			}
		}
		start, _ := proc.StartTime(os.Getpid())
		boot, _ := proc.BootID()
		if o := <-owners; o != (agent.Owner{PID: os.Getpid(), Start: start, Boot: boot}) {
			t.Errorf("owner %+v", o)
		}
		set.Close()
		eventually(t, "every fd is closed", func() bool { return len(openFDs()) <= before })
	}
}

func TestTheOwnerMayBeAnotherProcess(t *testing.T) {
	f := tapFake(1, 0)
	owners := make(chan agent.Owner, 1)
	f.claimed = func(_ []byte, o agent.Owner, _ error) { owners <- o }
	c, _ := pair(t, f)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer in.Close()
	_, set, err := c.OpenTap(t.Context(), vmnetd.Request{VM: "vm1"}, cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	set.Close()
	if o := <-owners; o.PID != cmd.Process.Pid {
		t.Errorf("owner %+v, want pid %d", o, cmd.Process.Pid)
	}
	if _, _, err := c.OpenTap(t.Context(), vmnetd.Request{VM: "vm1"}, 1<<22+1); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("an owner that is not there: %v", err)
	}
}

func TestAFailureAtEachStepLeavesNoFD(t *testing.T) {
	boom := vmnetd.Errorf(vmnetd.ErrBusy, "boom").WithNext("wait")
	for name, f := range map[string]*fake{
		"claim refused": {queues: func() (*queuefd.Set, error) { return nil, boom }},
		"not set up": {
			queues: tapFake(3, 3).queues,
			finish: func(error, vmnetd.Attachment) (vmnetd.Attachment, error) { return vmnetd.Attachment{}, boom },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := pair(t, f)
			before := len(openFDs())
			_, _, err := c.OpenTap(t.Context(), vmnetd.Request{VM: "vm1"}, 0)
			if !errors.Is(err, vmnetd.ErrBusy) || err.Error() != "boom" || vmnetd.NextOf(err) != "wait" {
				t.Errorf("%v", err)
			}
			eventually(t, "every fd is closed", func() bool { return len(openFDs()) <= before })
		})
	}
}

// rawTap is a client by hand: a server with a token in it, and a connection.
func rawTap(t *testing.T, f *fake) (s *Server, connect func() *net.UnixConn) {
	t.Helper()
	s = serve(t, testkit.StartBus(t), f)
	return s, func() *net.UnixConn {
		s.fds.issue([]byte(strings.Repeat("t", tokenSize)), 0)
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s.fds.path, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

func TestBadFirstPacketsAreRefusedAndTheirFDsClosed(t *testing.T) {
	f := tapFake(1, 0)
	f.claimed = func([]byte, agent.Owner, error) { t.Error("claimed") }
	_, connect := rawTap(t, f)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	file := eventfds(1)[0]
	defer unix.Close(file)
	ended := endedPidfd(t)
	defer unix.Close(ended)
	many := eventfds(mostFDs)
	defer closeAll(many)
	token := []byte(strings.Repeat("t", tokenSize))
	before := len(openFDs())
	for name, packet := range map[string]struct {
		data []byte
		fds  []int
		want string
	}{
		"no fd":            {token, nil, "Invalid"},
		"two fds":          {token, []int{pidfd, pidfd}, "Invalid"},
		"253 fds":          {token, many, "Invalid"},
		"no pidfd":         {token, []int{file}, "Invalid"},
		"process ended":    {token, []int{ended}, ""},
		"unknown token":    {[]byte(strings.Repeat("u", tokenSize)), []int{pidfd}, "Denied"},
		"short token":      {token[:31], []int{pidfd}, "Invalid"},
		"long token":       {append(token, 'x'), []int{pidfd}, "Invalid"},
		"long packet":      {[]byte(strings.Repeat("t", 4096)), []int{pidfd}, "Invalid"},
		"nothing, but fds": {nil, []int{pidfd, pidfd}, "Invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect()
			defer conn.Close()
			if err := sendRaw(conn, packet.data, packet.fds); err != nil {
				t.Fatal(err)
			}
			data, fds, err := readPacket(conn, mostPacket, mostFDs, 10*time.Second)
			closeAll(fds)
			if err != nil || len(fds) > 0 || !strings.Contains(string(data), `{"error":{"name":"`+packet.want) {
				t.Errorf("answer %q, %d fds, %v", data, len(fds), err)
			}
		})
	}
	eventually(t, "every fd is closed", func() bool { return len(openFDs()) <= before })
}

// sendRaw also sends what net.UnixConn would not: a packet without a byte.
func sendRaw(conn *net.UnixConn, data []byte, fds []int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var sent error
	if err := raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), data, oob, nil, 0)
		return true
	}); err != nil {
		return err
	}
	return sent
}

func endedPidfd(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	_ = cmd.Wait()
	return pidfd
}

func TestATokenWorksOnce(t *testing.T) {
	f := tapFake(1, 0)
	s, _ := rawTap(t, f)
	token := []byte(strings.Repeat("t", tokenSize))
	s.fds.issue(token, 0)
	_, set, err := claim(t.Context(), s.fds.path, token, 0)
	if err != nil {
		t.Fatal(err)
	}
	set.Close()
	if _, _, err := claim(t.Context(), s.fds.path, token, 0); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("the second time: %v", err)
	}
}

func TestATokenIsOfNoUseToAnotherUser(t *testing.T) {
	f := tapFake(1, 0)
	f.claimed = func([]byte, agent.Owner, error) { t.Error("claimed") }
	s, connect := rawTap(t, f)
	connect().Close()
	if got := asNobody(t, "steal", "SOCKET="+s.fds.path); !strings.HasPrefix(got, "Denied: ") {
		t.Errorf("%s", got)
	}
}

func TestAClientThatNeverTakesTheQueuesLeavesNone(t *testing.T) {
	for name, after := range map[string]func(*net.UnixConn){
		"hangs up":     func(c *net.UnixConn) { c.Close() },
		"says no":      func(c *net.UnixConn) { _ = sendPacket(c, []byte("no")) },
		"sends an fd":  func(c *net.UnixConn) { _ = sendPacket(c, []byte(packetAck), 1) },
		"says nothing": func(*net.UnixConn) {},
	} {
		t.Run(name, func(t *testing.T) {
			f := tapFake(2, 2)
			result := make(chan error, 1)
			f.claimed = func(_ []byte, _ agent.Owner, err error) { result <- err }
			_, connect := rawTap(t, f)
			before := len(openFDs())
			conn := connect()
			defer conn.Close()
			pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
			if err != nil {
				t.Fatal(err)
			}
			err = sendPacket(conn, []byte(strings.Repeat("t", tokenSize)), pidfd)
			unix.Close(pidfd)
			if err != nil {
				t.Fatal(err)
			}
			_, fds, err := readPacket(conn, mostPacket, mostFDs, 10*time.Second)
			closeAll(fds)
			if err != nil || len(fds) != 4 {
				t.Fatalf("%d fds, %v", len(fds), err)
			}
			after(conn)
			if err := within(result); err == nil || strings.Contains(err.Error(), "still running") {
				t.Errorf("done(%v): the agent does not know", err)
			}
			conn.Close()
			eventually(t, "every fd is closed", func() bool { return len(openFDs()) <= before })
		})
	}
}

func TestACrowdOfSilentConnectionsKeepsNobodyOut(t *testing.T) {
	f := tapFake(1, 0)
	s, _ := rawTap(t, f)
	s.fds.mu.Lock()
	s.fds.firstPacket = time.Minute // nobody of the crowd is closed for its silence
	s.fds.mu.Unlock()
	before := len(openFDs())
	got := asNobody(t, "crowd", "SOCKET="+s.fds.path)
	if got != "32" { // 48 came, 16 are kept
		t.Errorf("%s connections closed at once", got)
	}
	s.fds.issue([]byte(strings.Repeat("t", tokenSize)), 0)
	_, set, err := claim(t.Context(), s.fds.path, []byte(strings.Repeat("t", tokenSize)), 0)
	if err != nil {
		t.Fatalf("root: %v", err)
	}
	set.Close()
	eventually(t, "they are closed", func() bool { return len(openFDs()) <= before })
}

func TestStoppingTheDaemonEndsAHandover(t *testing.T) {
	f := tapFake(1, 0)
	result := make(chan error, 1)
	f.claimed = func(_ []byte, _ agent.Owner, err error) { result <- err }
	s := New(f, Options{Address: testkit.StartBus(t), RunDir: shortDir(t)})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	<-s.Ready()
	token := []byte(strings.Repeat("t", tokenSize))
	s.fds.issue(token, 0)
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s.fds.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pidfd, _ := unix.PidfdOpen(os.Getpid(), 0)
	defer unix.Close(pidfd)
	if err := sendPacket(conn, token, pidfd); err != nil {
		t.Fatal(err)
	}
	_, fds, err := readPacket(conn, mostPacket, mostFDs, 10*time.Second)
	closeAll(fds)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := within(result); err == nil {
		t.Error("the agent takes the handover for done")
	}
	if err := within(served); err != nil {
		t.Error(err)
	}
}

func TestASocketLeftByADeadDaemonIsReplaced(t *testing.T) {
	dir := shortDir(t)
	old, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, fdSocketName), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	address := testkit.StartBus(t)
	serve(t, address, tapFake(1, 0), func(o *Options) { o.RunDir = dir })
	_, set, err := client(t, address).OpenTap(t.Context(), vmnetd.Request{VM: "vm1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	set.Close()
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnrun")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
