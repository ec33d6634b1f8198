package room

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/tapdev"
)

func TestOurNamespaceIsMadeOnceAndFoundAgainWithItsDevices(t *testing.T) {
	l := newLab(t)
	_, err := l.Own(t.Context(), false)
	says(t, err, vmnetd.ErrNotFound)
	p := l.own(t, l.Rooms)
	if p.ID() == l.Here().ID() {
		t.Fatal("it is the host's own")
	}
	dev := l.guest(t, p)
	_ = l.Close()
	for _, mayMake := range []bool{false, true} {
		again, err := l.again(t).Own(t.Context(), mayMake)
		if err != nil {
			t.Fatal(err)
		}
		found, err := again.FindNIC(t.Context(), "a", "net0")
		if again.ID() != p.ID() || err != nil || found.Ifindex != dev.Ifindex {
			t.Errorf("it was %s with %+v, and is %s with %+v, %v", p.ID(), dev, again.ID(), found, err)
		}
	}
}

func TestOurNamespaceOutlivesADaemonThatIsKilledInAMountNamespaceOfItsOwn(t *testing.T) {
	outlivesItsDaemon(t)
}

func outlivesItsDaemon(t *testing.T) {
	t.Helper()
	l := newLab(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := l.ns.Command(t.Context(), "unshare", "--mount", "--propagation", "slave", program, "daemon", l.dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "made\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	before := l.own(t, l.again(t))
	dev, mounts := l.guest(t, before), readlink(t, cmd.Process.Pid, "mnt")
	if mounts == readlink(t, os.Getpid(), "mnt") {
		t.Fatal("it has no mount namespace of its own")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	after := l.own(t, l.again(t))
	found, err := after.FindNIC(t.Context(), "a", "net0")
	if after.ID() != before.ID() || err != nil || found.Ifindex != dev.Ifindex {
		t.Errorf("%s with %+v became %s with %+v, %v", before.ID(), dev, after.ID(), found, err)
	}
	_, err = os.Readlink("/proc/1/ns/mnt") // a sandbox may keep process 1 to itself
	if now := readlink(t, l.pid(), "mnt"); now == mounts && err == nil {
		t.Errorf("the daemon's mount namespace %s is kept by the process in ours", mounts)
	}
}

func readlink(t *testing.T, pid int, ns string) string {
	t.Helper()
	name, err := os.Readlink(filepath.Join("/proc", itoa(pid), "ns", ns))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestManyThatMakeOurNamespaceAtOnceGetOne(t *testing.T) {
	l := newLab(t)
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		r := l.again(t)
		all.Go(func() {
			p, err := r.Own(context.Background(), true)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = p.ID()
		})
	}
	all.Wait()
	if slices.Sort(ids); ids[0] == "" || ids[0] != ids[len(ids)-1] {
		t.Errorf("%v", ids)
	}
}

func TestAKilledProcessIsNoticedItsNamespaceGoesAndAnotherIsMade(t *testing.T) {
	l := newLab(t)
	heard := make(chan int, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx, func(ifindex int) { heard <- ifindex }) }()
	hear := func(want int) {
		t.Helper()
		for {
			select {
			case got := <-heard:
				if got == want {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%d was not told", want)
			}
		}
	}
	first := l.own(t, l.Rooms)
	hear(0)
	dev := l.guest(t, first)
	hear(dev.Ifindex)
	drain(heard)
	l.end()
	hear(Ended)
	_, err := l.Own(t.Context(), false)
	says(t, err, vmnetd.ErrNotFound)
	if _, err := first.FindNIC(t.Context(), "a", "net0"); err == nil {
		t.Error("the place that has gone still answers")
	}
	second := l.own(t, l.Rooms)
	hear(0)
	if nics, err := second.Ours(t.Context()); err != nil || len(nics) > 0 {
		t.Errorf("the new one has %+v, %v", nics, err)
	}
	hear(l.guest(t, second).Ifindex)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func drain(c chan int) {
	for len(c) > 0 {
		<-c
	}
}

func TestNoSignalButKillEndsTheProcess(t *testing.T) {
	l := newLab(t)
	p := l.own(t, l.Rooms)
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGQUIT, unix.SIGPIPE} {
		if err := unix.Kill(l.pid(), sig); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Ours(t.Context()); err != nil {
			t.Errorf("after signal %s: %v", sig, err)
		}
	}
	if again := l.own(t, l.again(t)); again.ID() != p.ID() {
		t.Error("it is another one")
	}
}

func TestAProcessThatDoesNotAnswerIsNotReplaced(t *testing.T) {
	l := newLab(t)
	p := l.own(t, l.Rooms)
	pid := l.pid()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is stopped", func() bool { return stopped(pid) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	_, err := l.again(t).Own(ctx, true)
	cancel()
	says(t, err, vmnetd.ErrFailed, "does not answer", l.socket())
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	_, err = p.Ours(ctx)
	cancel()
	says(t, err, vmnetd.ErrFailed, "in time")
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if again := l.own(t, l.again(t)); again.ID() != p.ID() {
		t.Error("it is another one")
	}
}

func stopped(pid int) bool {
	b, _ := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "T")
}

func TestAProcessWithNothingToDoDoesNothing(t *testing.T) {
	l := newLab(t)
	l.own(t, l.Rooms)
	pid := l.pid()
	switches := func() int {
		return status(t, pid, "voluntary_ctxt_switches") + status(t, pid, "nonvoluntary_ctxt_switches")
	}
	before := switches()
	for {
		time.Sleep(500 * time.Millisecond) // how long it is watched
		now := switches()
		if now-before <= 2 {
			return // the runtime itself looks round once a minute
		}
		if t.Context().Err() != nil || now > 10_000 {
			t.Fatalf("%d times it woke in half a second", now-before)
		}
		before = now
	}
}

func TestAnotherUserIsRefused(t *testing.T) {
	l := newLab(t)
	l.own(t, l.Rooms)
	if err := os.Chmod(l.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := greetedAs(t, 65534, l.socket()); !errors.Is(err, unix.EACCES) {
		t.Errorf("the socket's mode lets others in: %v", err)
	}
	if err := os.Chmod(l.socket(), 0o666); err != nil {
		t.Fatal(err)
	}
	if said, err := greetedAs(t, 65534, l.socket()); said || err != nil {
		t.Errorf("another user is greeted: %v, %v", said, err)
	}
	if said, err := greetedAs(t, 0, l.socket()); !said || err != nil {
		t.Errorf("root is not greeted: %v, %v", said, err)
	}
}

// greetedAs connects as a user and says whether anything was said.
func greetedAs(t *testing.T, uid int, path string) (said bool, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocks: the thread ends with this user
		same := ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
			err = errno
			return
		}
		fd, e := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if e != nil {
			err = e
			return
		}
		defer unix.Close(fd)
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return
		}
		n, e := unix.Read(fd, make([]byte, 1))
		said, err = n > 0, e
	}()
	<-done
	return said, err
}

func TestAProcessOfAnotherVersionBecomesOurs(t *testing.T) {
	l := newLab(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.0", "2.0"} {
		if err := os.Symlink(program, filepath.Join(l.dir, version)); err != nil {
			t.Fatal(err)
		}
	}
	l.o.Starter, l.o.Program, l.o.Version = Child{Program: filepath.Join(l.dir, "1.0")}, filepath.Join(l.dir, "1.0"), "1.0"
	p := l.own(t, l.again(t))
	dev, pid := l.guest(t, p), l.pid()

	for name, script := range map[string]string{
		"does not start": "echo no such flag >&2; exit 2",
		"cannot serve":   "ulimit -n 6; exec " + program + ` "$@"`, // it takes the flags, and has no descriptor for netlink
	} {
		broken := filepath.Join(l.dir, "broken")
		if err := os.WriteFile(broken, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		l.o.Program, l.o.Version = broken, "1.5"
		if again := l.own(t, l.again(t)); again.ID() != p.ID() || l.pid() != pid {
			t.Fatalf("a program that %s took the namespace along", name)
		}
	}

	l.o.Program, l.o.Version = filepath.Join(l.dir, "2.0"), "2.0"
	after := l.again(t)
	again := l.own(t, after)
	found, err := again.FindNIC(t.Context(), "a", "net0")
	if again.ID() != p.ID() || l.pid() != pid || err != nil || found.Ifindex != dev.Ifindex {
		t.Errorf("%s of process %d with %+v became %s of %d with %+v, %v", p.ID(), pid, dev, again.ID(), l.pid(), found, err)
	}
	if said := after.found().link.said.Version; said != "2.0" {
		t.Errorf("its version is %s", said)
	}
	if fds := openFiles(t, pid); slices.ContainsFunc(fds, func(f string) bool { return strings.Contains(f, "deleted") }) {
		t.Errorf("it holds %v", fds)
	}
}

func openFiles(t *testing.T, pid int) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", itoa(pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join("/proc", itoa(pid), "fd", e.Name()))
		files = append(files, target)
	}
	return files
}

func TestNeitherSideKeepsDescriptorsOfConnectionsThatEnded(t *testing.T) {
	l := newLab(t)
	l.own(t, l.Rooms)
	pid := l.pid()
	eventually(t, "the connection that asked is closed", func() bool { return len(openFiles(t, pid)) > 0 })
	before := len(openFiles(t, pid))
	for range 50 {
		d, err := dial(t.Context(), l.socket())
		if err != nil {
			t.Fatal(err)
		}
		_ = d.send(request{ID: 1, Verb: verbWatch}, d.ns.Fd()) // a descriptor that nobody asked for
		_ = d.close()
	}
	eventually(t, "all are closed again", func() bool { return len(openFiles(t, pid)) <= before })
}

func TestWhatIsNoRequestEndsNothing(t *testing.T) {
	l := newLab(t)
	p := l.own(t, l.Rooms)
	for _, junk := range []string{"\xff\xff\xff\xff{}", "\x00\x00\x00\x02{]", "\x00\x00\x00\x04null", "\x00\x00\x00\x09{\"id\":-1}", "GET / HTTP/1.1\r\n\r\n"} {
		c, err := net.Dial("unix", l.socket())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(junk)); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	for verb, args := range map[string]any{"format": nil, "settle": map[string]any{"later": 1}, "remove": 7, "findnic": nil} {
		_, err := linkOf(t, p).call(t.Context(), verb, args, nil)
		if verb != "findnic" { // null is no NIC of that name
			says(t, err, vmnetd.ErrUnsupported)
		} else if err == nil {
			t.Error("a NIC without a name is found")
		}
	}
	if _, err := p.Ours(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestErrorsKeepTheirClassAndTheirAdvice(t *testing.T) {
	l := newLab(t)
	p := l.own(t, l.Rooms)
	dev := l.guest(t, p)
	_, err := p.FindNIC(t.Context(), "a", "net9")
	says(t, err, vmnetd.ErrNotFound, "a/net9")
	_, err = p.Settle(t.Context(), dev, tapdev.Settings{VM: "a", ID: "net0", Name: "all"})
	says(t, err, vmnetd.ErrInvalid, `"all"`)
	if vmnetd.NextOf(err) == "" {
		t.Error("its advice is lost")
	}
	says(t, p.SetUp(t.Context(), tapdev.Device{VM: "b", ID: "net0", Ifindex: 4711}, true), vmnetd.ErrNotFound, "b/net0")
	nobody := tapdev.Device{VM: "b", ID: "net0", Ifname: "vmnnobody", Ifindex: 4711}
	h := l.Here()
	for what, both := range map[string][2]error{
		"answer":   {p.Answer(t.Context(), nobody), h.Answer(t.Context(), nobody)},
		"counters": {second(p.Counters(t.Context(), "vmnnobody")), second(h.Counters(t.Context(), "vmnnobody"))},
		"packets":  {second(p.Packets(t.Context(), nobody)), second(h.Packets(t.Context(), nobody))},
	} {
		if both[0] == nil || vmnetd.ClassOf(both[0]).Name != vmnetd.ClassOf(both[1]).Name {
			t.Errorf("%s: in there %v, here %v", what, both[0], both[1])
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAPacketSocketOfADeviceInThereIsHandedOver(t *testing.T) {
	l := newLab(t)
	p := l.own(t, l.Rooms)
	dev := l.guest(t, p)
	fd, err := p.Packets(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	sa, err := unix.Getsockname(fd)
	if at, ok := sa.(*unix.SockaddrLinklayer); err != nil || !ok || at.Ifindex != dev.Ifindex {
		t.Errorf("it is bound to %+v, %v", sa, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("programs that we run have it too: %v", err)
	}
}

func TestADeviceIsSettledSetUpAndRemovedInThere(t *testing.T) {
	l := newLab(t)
	p := l.own(t, l.Rooms)
	dev := l.guest(t, p)
	dev, err := p.Settle(t.Context(), dev, tapdev.Settings{VM: "a", ID: "net0", Guest: true, IPs: prefixes("192.0.2.10/32", "2001:db8::10/128")})
	if err != nil || len(dev.IPs) != 2 {
		t.Fatalf("%+v, %v", dev, err)
	}
	if err := p.SetUp(t.Context(), dev, true); err != nil {
		t.Fatal(err)
	}
	nics, err := p.Ours(t.Context())
	if err != nil || len(nics) != 1 || !nics[0].Up {
		t.Errorf("%+v, %v", nics, err)
	}
	if err := p.Remove(t.Context(), dev, dev); err != nil {
		t.Fatal(err)
	}
	if _, err := p.FindNIC(t.Context(), "a", "net0"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
}

func TestAProgramThatIsNotThereOrDoesNotStartIsSaid(t *testing.T) {
	l := newLab(t)
	l.o.Starter = Child{Program: filepath.Join(l.dir, "nowhere")}
	_, err := l.again(t).Own(t.Context(), true)
	says(t, err, vmnetd.ErrFailed, "nowhere")
	broken := filepath.Join(l.dir, "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho vmnetd: it is broken >&2; exit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.o.Starter = Child{Program: broken}
	_, err = l.again(t).Own(t.Context(), true)
	says(t, err, vmnetd.ErrFailed, "does not start: it is broken")
	if exec.Command("true").Run() != nil { // threads that came back start processes as before
		t.Error("no process can be started any more")
	}
	if _, err := os.Stat(l.socket()); err == nil {
		t.Error("a socket is left")
	}
}

func TestHereIsTheHostsOwnNamespace(t *testing.T) {
	l := newLab(t)
	h := l.Here()
	if !h.NS().Same(l.ns.NS()) || h.Close() != nil {
		t.Error("it is another one")
	}
	name := vmnetd.Ifname("a", "net0")
	l.ns.Create(t, rtnl.NewLink{Name: name, Kind: "macvtap", Lower: l.ns.Link(t, "u0").Index, Group: tapdev.Group, Data: rtnl.MacvlanMode("bridge")})
	l.ns.Set(t, name, rtnl.Alias(vmnetd.Alias("a", "net0")))
	dev, err := h.FindNIC(t.Context(), "a", "net0")
	if err != nil {
		t.Fatal(err)
	}
	if ours, err := h.Ours(t.Context()); err != nil || len(ours) != 1 {
		t.Errorf("%+v, %v", ours, err)
	}
	if err := errors.Join(h.SetUp(t.Context(), dev, true), h.Remove(t.Context(), dev)); err != nil {
		t.Error(err)
	}
}

func TestTheThreadThatGoesElsewhereIsNeverTheMainOne(t *testing.T) {
	for range 2000 {
		apart(func() {
			if unix.Gettid() == unix.Getpid() {
				t.Error("it is the main thread")
			}
		})
	}
}
