package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestFindKnowsWhoIsBehindTheSocket(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	const uuid = "a8098c1a-f86e-11da-bd1a-00112444be1e"
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, UUID: uuid, SMP: 3})
	for _, via := range []string{"", "qmp", "qmp:" + guest.Socket} {
		vm, err := q.Find(t.Context(), guest.Name, via)
		if err != nil {
			t.Fatal(err)
		}
		want := VM{Name: guest.Name, UUID: uuid, Via: "qmp:" + guest.Socket, Socket: guest.Socket, PID: guest.PID, Instance: vm.Instance, VCPUs: 3}
		if !reflect.DeepEqual(vm, want) || !strings.HasPrefix(vm.Instance, fmt.Sprint(guest.PID, ":")) {
			t.Errorf("Find(%q) = %+v, want %+v", via, vm, want)
		}
	}
	guest.QMP("cont", nil)
	if vm, err := q.Ask(t.Context(), guest.Name, ""); err != nil || !vm.Running {
		t.Errorf("a VM that runs is shown as %+v, %v", vm, err)
	}
}

func TestFindAsksARunOfAVMOnce(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	first := find(t, q, guest.Name)
	open(t, guest.Socket, Limits{}) // from now on a question would find the socket busy
	if vm, err := q.Find(t.Context(), guest.Name, ""); err != nil || !reflect.DeepEqual(vm, first) {
		t.Errorf("Find = %+v, %v", vm, err)
	}
	q.limits = hastily.withDefaults()
	if _, err := q.Ask(t.Context(), guest.Name, ""); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("Ask = %v", err)
	}
	q.limits = Limits{}.withDefaults()
	guest.Kill()
	if vm, err := q.Find(t.Context(), guest.Name, ""); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("after its end: %+v, %v", vm, err)
	}
	next := testkit.StartQEMU(t, testkit.QEMUOptions{Name: guest.Name, QMPDir: dir})
	if vm := find(t, q, guest.Name); vm.PID != next.PID || vm.Instance == first.Instance {
		t.Errorf("the next run is told as %+v", vm)
	}
}

func TestFindTakesAVMWithoutNameAndUUID(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, NoName: true})
	vm := find(t, q, guest.Name)
	if vm.UUID != "" || vm.PID != guest.PID {
		t.Errorf("VM = %+v, want no UUID and PID %d", vm, guest.PID)
	}
}

func TestFindRefusesASocketOfAnotherVM(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	_, err := q.Find(t.Context(), "somebody", "qmp:"+guest.Socket)
	if !errors.Is(err, vmnetd.ErrNotFound) || !strings.Contains(err.Error(), "calls itself "+guest.Name) {
		t.Errorf("Find by socket = %v", err)
	}
	if err := os.Rename(guest.Socket, filepath.Join(dir, "somebody.sock")); err != nil {
		t.Fatal(err)
	}
	_, err = q.Find(t.Context(), "somebody", "")
	if !errors.Is(err, vmnetd.ErrNotFound) || !strings.Contains(err.Error(), "calls itself "+guest.Name) {
		t.Errorf("Find by pattern = %v", err)
	}
	next := "use that name (vmnetd attach " + guest.Name + "), or start this QEMU with -name somebody"
	if got := vmnetd.NextOf(err); got != next {
		t.Errorf("next = %q, want %q", got, next)
	}
	checks := q.Doctor(t.Context())
	if last := checks[len(checks)-1]; last.Level != vmnetd.LevelWarn || last.Do != next {
		t.Errorf("Doctor = %+v, want no advice to remove the socket of a VM that runs", last)
	}
}

func TestStoppedQEMUIsNamedToEveryCaller(t *testing.T) {
	for _, c := range []struct {
		name   string
		before bool // it was found before it was stopped
	}{{"known", true}, {"never seen", false}} {
		t.Run(c.name, func(t *testing.T) {
			q, dir := newQMP(t, Limits{})
			guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
			if c.before {
				find(t, q, guest.Name)
			}
			q.limits = hastily.withDefaults()
			guest.Stop()
			t.Cleanup(guest.Cont)
			next := fmt.Sprintf("let it go on: kill -CONT %d", guest.PID)
			for i := range 4 { // from the third on listen(2)'s queue is full
				if _, err := q.Ask(t.Context(), guest.Name, ""); vmnetd.NextOf(err) != next {
					t.Errorf("call %d: %v, next %q", i, err, vmnetd.NextOf(err))
				}
			}
			checks := q.Doctor(t.Context())
			if last := checks[len(checks)-1]; last.Do != next {
				t.Errorf("Doctor = %+v", last)
			}
		})
	}
}

func TestFindNamesWhatItTried(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	if err := q.Configure(Config{Sockets: []string{dir + "/{vm}.sock", dir + "/{vm}/qmp", "/nonexistent/{vm}.qmp"}}); err != nil {
		t.Fatal(err)
	}
	_, err := q.Find(t.Context(), "vm1", "")
	if !errors.Is(err, vmnetd.ErrNotFound) {
		t.Fatalf("Find = %v", err)
	}
	for _, path := range []string{dir + "/vm1.sock", dir + "/vm1/qmp", "/nonexistent/vm1.qmp"} {
		if !strings.Contains(err.Error(), path) {
			t.Errorf("%q does not name %s", err, path)
		}
	}
	if !strings.Contains(vmnetd.NextOf(err), "-qmp unix:"+dir+"/vm1.sock") {
		t.Errorf("next = %q", vmnetd.NextOf(err))
	}
}

func TestFindRefusesNamesBeforeItBuildsAPath(t *testing.T) {
	q, _ := newQMP(t, Limits{})
	for _, name := range []string{"", "..", "a/b", "-x", "a\x00b", "a\nb", strings.Repeat("x", 129)} {
		if _, err := q.Find(t.Context(), name, ""); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("Find(%q) = %v", name, err)
		}
	}
	for _, via := range []string{"libvirt", "qmp:", "qmp:relative", "qmp:/a/../b", "qmpx"} {
		if _, err := q.Find(t.Context(), "vm1", via); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("Find via %q = %v", via, err)
		}
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{Name: "real" + fmt.Sprint(os.Getpid())})
	if err := os.Symlink(guest.Socket, filepath.Join(dir, guest.Name+".sock")); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Find(t.Context(), guest.Name, ""); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("a link in place of the socket: %v", err)
	}
	if err := q.Configure(Config{Sockets: []string{dir + "/{vm}/" + guest.Name + ".sock"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(guest.Socket), filepath.Join(dir, guest.Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Find(t.Context(), guest.Name, ""); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("a link in place of the directory: %v", err)
	}
	if got := q.Sockets(); len(got) != 0 {
		t.Errorf("Sockets = %v", got)
	}
}

func TestDirectoryThatOthersCanWriteToIsRefused(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	for _, mode := range []os.FileMode{0o777, 0o777 | os.ModeSticky, 0o757} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		_, err := q.Find(t.Context(), guest.Name, "")
		if !errors.Is(err, vmnetd.ErrDenied) || !strings.Contains(err.Error(), dir) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	find(t, q, guest.Name)
}

func TestSocketPathMayBeLongerThanASocketAddress(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	deep := filepath.Join(dir, strings.Repeat("d", 100))
	if err := os.Mkdir(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := q.Configure(Config{Sockets: []string{deep + "/{vm}.sock"}}); err != nil {
		t.Fatal(err)
	}
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: deep, NoName: true})
	if vm := find(t, q, guest.Name); vm.PID != guest.PID {
		t.Errorf("PID = %d, want %d, by its relative socket path", vm.PID, guest.PID)
	}
}

func TestSocketThatNobodyListensOnIsNoVM(t *testing.T) {
	q, dir := newQMP(t, Limits{Appear: 100 * time.Millisecond})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	guest.Kill()
	if _, err := q.Find(t.Context(), guest.Name, ""); !errors.Is(err, vmnetd.ErrNotFound) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Find = %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Find(t.Context(), "file", ""); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("Find of a plain file = %v", err)
	}
}

func TestListenerThatIsNotQEMUHasNoPID(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{})
	proxy(t, filepath.Join(dir, guest.Name+".sock"), guest.Socket)
	vm := find(t, q, guest.Name)
	if vm.PID != 0 || !strings.HasPrefix(vm.Instance, "socket:") {
		t.Errorf("VM = %+v: the test called listen(2), it is not the VM", vm)
	}
	if again := find(t, q, guest.Name); again.Instance != vm.Instance {
		t.Errorf("instance %s, then %s", vm.Instance, again.Instance)
	}
}

// proxy listens on a socket and passes on to another; ended by stop, or with
// the test.
func proxy(t *testing.T, socket, to string) (stop func()) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false) // as after a crash
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", to)
			if err != nil {
				in.Close()
				continue
			}
			serving.Go(func() { _, _ = io.Copy(in, out); in.Close() })
			serving.Go(func() { _, _ = io.Copy(out, in); out.Close() })
		}
	})
	stop = sync.OnceFunc(func() { ln.Close(); serving.Wait() })
	t.Cleanup(stop)
	return stop
}

func TestQEMUThatWasGivenItsSocketIsKnownOnceItHasGreeted(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "passed.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-m", "64", "-accel", "tcg",
		"-name", "passed", "-chardev", "socket,id=c,fd=3,server=on,wait=off", "-mon", "chardev=c,mode=control")
	cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	first := find(t, q, "passed") // connects before QEMU has come to its socket
	if first.PID != cmd.Process.Pid {
		t.Errorf("PID = %d, want %d", first.PID, cmd.Process.Pid)
	}
	if again := find(t, q, "passed"); again.Instance != first.Instance {
		t.Errorf("instance %s, then %s", first.Instance, again.Instance)
	}
}

func TestBusySocketNamesWhoHoldsIt(t *testing.T) {
	q, dir := newQMP(t, hastily)
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	holder := holdSocket(t, guest.Socket)
	within(t, longEnough, "Find", func() {
		_, err := q.Find(t.Context(), guest.Name, "")
		want := fmt.Sprintf("process %d (python3", holder.Process.Pid)
		if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), want) {
			t.Errorf("Find = %v, want it to name %s", err, want)
		}
	})
	checks := q.Doctor(t.Context())
	if last := checks[len(checks)-1]; last.Level != vmnetd.LevelFail || !strings.Contains(last.Text, "is held by process") || strings.Contains(last.Text, "tried for") {
		t.Errorf("Doctor = %+v", checks)
	}
}

// holdSocket connects to a socket from another process and is served.
func holdSocket(t *testing.T, socket string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("python3", "-c", `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)
print("held", flush=True)
sys.stdin.read()`, socket)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestBusySocketIsTriedUntilItIsFree(t *testing.T) {
	q, dir := newQMP(t, Limits{Greeting: 50 * time.Millisecond, Busy: longEnough})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	held := open(t, guest.Socket, Limits{})
	found := make(chan error, 1)
	go func() {
		_, err := q.Find(context.Background(), guest.Name, "")
		found <- err
	}()
	select {
	case err := <-found:
		t.Fatalf("Find = %v while somebody else is connected", err)
	case <-time.After(200 * time.Millisecond): // it has tried several times by now
	}
	if err := held.Disconnect(); err != nil {
		t.Fatal(err)
	}
	if err := <-found; err != nil {
		t.Errorf("Find = %v", err)
	}
}

func TestOwnCallsTakeTurns(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir})
	giveBack, err := q.turns.take(t.Context(), guest.Socket)
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error)
	for range 20 {
		go func() {
			_, err := q.Find(context.Background(), guest.Name, "")
			results <- err
		}()
	}
	inLine := func() int {
		q.turns.mu.Lock()
		defer q.turns.mu.Unlock()
		return q.turns.of[guest.Socket].users - 1
	}
	for deadline := time.Now().Add(longEnough); inLine() < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 20 calls wait for their turn", inLine())
		}
	}
	giveBack()
	for range 20 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if len(q.turns.of) != 0 {
		t.Errorf("%d turns are left", len(q.turns.of))
	}
}

func TestAllowedIsRootOrBeneathAConfiguredDirectory(t *testing.T) {
	q := NewQMP(Options{Patterns: []string{"/run/vmnetd/qmp/{vm}.sock", "/srv/{vm}/qmp.sock"}})
	for _, c := range []struct {
		uid  uint32
		via  string
		want error
	}{
		{0, "qmp:/tmp/x", nil},
		{1000, "", nil},
		{1000, "qmp", nil},
		{1000, "qmp:/run/vmnetd/qmp/any.name", nil},
		{1000, "qmp:/run/vmnetd/qmp/sub/any.name", nil},
		{1000, "qmp:/srv/vm1/qmp.sock", nil},
		{1000, "qmp:/srv/vm1/other.sock", vmnetd.ErrDenied},
		{1000, "qmp:/srv/vm1", vmnetd.ErrDenied},
		{1000, "qmp:/run/vmnetd/qmpx/a", vmnetd.ErrDenied},
		{1000, "qmp:/run/vmnetd/qmp", vmnetd.ErrDenied},
		{1000, "qmp:/run/vmnetd/qmp/../x", vmnetd.ErrInvalid},
		{1000, "qmp:/tmp/x", vmnetd.ErrDenied},
		{0, "qmp:x", vmnetd.ErrInvalid},
	} {
		if err := q.Allowed(c.uid, c.via); !errors.Is(err, c.want) {
			t.Errorf("Allowed(%d, %q) = %v, want %v", c.uid, c.via, err, c.want)
		}
	}
}

func TestBadPatternIsRefusedAndTheOldOnesStay(t *testing.T) {
	q := NewQMP(Options{Patterns: []string{"/a/{vm}.sock"}})
	for _, text := range []string{"", "a/{vm}", "/a/b", "/a/{vm}/{vm}", "/a/../{vm}", "/a//{vm}"} {
		if err := q.Configure(Config{Sockets: []string{"/b/{vm}", text}}); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("Configure(%q) = %v", text, err)
		}
	}
	if got := q.config(); len(got) != 1 || got[0].path("x") != "/a/x.sock" {
		t.Errorf("patterns = %+v", got)
	}
}

func TestDoctorTellsOfEachSocket(t *testing.T) {
	q, dir := newQMP(t, Limits{Appear: time.Millisecond})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, Name: fmt.Sprintf("a%d", os.Getpid())})
	dead := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, Name: fmt.Sprintf("b%d", os.Getpid())})
	dead.Kill()
	checks := q.Doctor(t.Context())
	if len(checks) != 3 || checks[0].Text != "2 found" ||
		checks[1].Level != vmnetd.LevelOK || !strings.Contains(checks[1].Text, fmt.Sprintf("process %d", guest.PID)) ||
		checks[2].Level != vmnetd.LevelWarn || !strings.Contains(checks[2].Do, dead.Socket) {
		t.Errorf("Doctor = %+v", checks)
	}
}
