package hypervisor

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// lvFake listens in libvirtd's place; answer gets the procedure of each call,
// and what it returns follows the header of the reply. nil: no answer.
func lvFake(t *testing.T, path string, answer func(proc uint32) []byte) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				lvServe(conn, answer)
			}()
		}
	}()
}

func lvServe(conn net.Conn, answer func(proc uint32) []byte) {
	for {
		header := make([]byte, lvHeader)
		if _, err := io.ReadFull(conn, header); err != nil {
			return
		}
		word := func(i int) uint32 { return binary.BigEndian.Uint32(header[4*i:]) }
		if _, err := io.CopyN(io.Discard, conn, int64(word(0))-lvHeader); err != nil {
			return
		}
		body := answer(word(3))
		if body == nil {
			continue
		}
		binary.BigEndian.PutUint32(header, uint32(lvHeader+len(body)))
		binary.BigEndian.PutUint32(header[16:], 1) // a reply
		if _, err := conn.Write(append(header, body...)); err != nil {
			return
		}
	}
}

// shortDir holds a socket: its path has at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnlv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func lvAt(t *testing.T, path string, limits Limits) *Libvirt {
	t.Helper()
	l := NewLibvirt(LibvirtOptions{Log: testLogger(t), Limits: limits})
	if err := l.Configure("qemu:///system?socket=" + path); err != nil {
		t.Fatal(err)
	}
	return l
}

// goroutines fails the test when more of them are left than there were.
func goroutines(t *testing.T) (check func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for deadline := time.Now().Add(longEnough); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			}
		}
	}
}

func TestALibvirtdThatNeverAnswersHoldsUpNobody(t *testing.T) {
	path := filepath.Join(shortDir(t), "sock")
	lvFake(t, path, func(uint32) []byte { return nil })
	left := goroutines(t)
	l := lvAt(t, path, Limits{Reach: 300 * time.Millisecond, Begin: 100 * time.Millisecond})
	seen, end := startRun(t, l.Run)
	seen.wait(t, 0, "the beginning", begun)
	for deadline := time.Now().Add(longEnough); ; time.Sleep(time.Millisecond) {
		_, err := l.Find(t.Context(), "vm1", viaLibvirt)
		if err != nil && strings.Contains(err.Error(), "frozen") && errors.Is(err, vmnetd.ErrFailed) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Find: %v", err)
		}
	}
	within(t, longEnough, "the end of Run", end)
	left()
}

// TestWhatLibvirtdHasNotToldYetIsNotDenied: between its first answer and its list a
// VM that is not known may well run, and its NICs are not to be removed.
func TestWhatLibvirtdHasNotToldYetIsNotDenied(t *testing.T) {
	path := filepath.Join(shortDir(t), "sock")
	l := lvAt(t, path, Limits{})
	l.setSession(&lvSession{path: path})
	q, _ := newQMP(t, Limits{})
	ways := Ways{QMP: q, Libvirt: l, Netns: NewNetns()}
	for via, find := range map[string]func(context.Context, string, string) (VM, error){viaLibvirt: l.Find, "": ways.Find} {
		if _, err := find(t.Context(), "vm1", via); !errors.Is(err, vmnetd.ErrFailed) || errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("%q: %v", via, err)
		}
	}
}

func TestWhatIsNoLibvirtdIsLeftAlone(t *testing.T) {
	for name, body := range map[string]string{
		"a web server":     "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"a length too low": "\x00\x00\x00\x03 nothing that matters here",
	} {
		dir := shortDir(t)
		listener, err := net.Listen("unix", dir+"/sock")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(body))
				if u, ok := conn.(*net.UnixConn); ok {
					_ = u.CloseWrite()
				}
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}
		}()
		l := lvAt(t, dir+"/sock", Limits{Reach: time.Second, Begin: 100 * time.Millisecond})
		seen, end := startRun(t, l.Run)
		seen.wait(t, 0, "the beginning", begun)
		if _, err := l.Find(t.Context(), "vm1", viaLibvirt); err == nil || !errors.Is(err, vmnetd.ErrFailed) {
			t.Errorf("%s: %v", name, err)
		}
		end()
		_ = listener.Close()
	}
}

func TestAnOldLibvirtIsNotUsed(t *testing.T) {
	path := filepath.Join(shortDir(t), "sock")
	lvFake(t, path, func(proc uint32) []byte {
		switch proc {
		case 66: // REMOTE_PROC_AUTH_LIST: one, none
			return []byte{0, 0, 0, 1, 0, 0, 0, 0}
		case 157: // REMOTE_PROC_CONNECT_GET_LIB_VERSION
			return binary.BigEndian.AppendUint64(nil, 7_010_000)
		}
		return []byte{}
	})
	l := lvAt(t, path, Limits{Begin: 50 * time.Millisecond})
	seen, _ := startRun(t, l.Run)
	seen.wait(t, 0, "the beginning", begun)
	_, err := l.Find(t.Context(), "vm1", viaLibvirt)
	for deadline := time.Now().Add(longEnough); errors.Is(err, errLvNotYet) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_, err = l.Find(t.Context(), "vm1", viaLibvirt)
	}
	if !errors.Is(err, vmnetd.ErrUnsupported) || err.Error() != "libvirt 7.10.0 is too old: vmnetd needs 8.0.0" {
		t.Errorf("%v", err)
	}
}

func TestLibvirtdMayComeLater(t *testing.T) {
	b := newLvBed(t)
	b.Kill()
	_ = os.RemoveAll(filepath.Dir(b.Socket))              // as after a boot
	l := lvAt(t, b.Socket, Limits{Begin: 2 * longEnough}) // the beginning does not wait for that
	late, _ := startRun(t, l.Run)
	late.wait(t, 0, "the beginning", begun)
	if checks := l.Doctor(t.Context()); len(checks) != 1 || checks[0].Text != "not there; VMs are found by QMP sockets" || checks[0].Level != vmnetd.LevelOK {
		t.Errorf("doctor: %+v", checks)
	}
	b.Start()
	b.Virsh("create", "--paused", b.file(lvXMLOf("vm1", 1, "")))
	late.wait(t, 1, "a VM", isVM("vm1", true))
}

func TestAFrozenLibvirtdEndsWithinTheLimits(t *testing.T) {
	b := newLvBed(t, Limits{Query: time.Second, Change: time.Second})
	vm := b.create("vm1")
	nic := b.device("net0", 1)
	session, err := b.l.session()
	if err != nil {
		t.Fatal(err)
	}
	left := goroutines(t)
	if err := unix.Kill(session.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { _ = unix.Kill(session.pid, unix.SIGCONT) }
	defer goOn()
	for what, f := range map[string]func() error{
		"Ask":    func() error { _, err := b.l.Ask(t.Context(), "vm1", ""); return err },
		"Plug":   func() error { _, err := b.l.Plug(t.Context(), vm, nic); return err },
		"Unplug": func() error { return b.l.Unplug(t.Context(), vm, nic) },
	} {
		within(t, longEnough, what, func() {
			err := f()
			silent := errors.Is(err, vmnetd.ErrFailed) && strings.Contains(err.Error(), "libvirtd does not answer on "+b.Socket)
			after := errors.Is(err, vmnetd.ErrBusy) && strings.Contains(err.Error(), "has not finished an earlier change") // Plug's
			if !silent && (!after || what != "Unplug") {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.l.SetLink(short, vm, nic, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller who goes: %v", err)
	}
	if vm := b.find("vm1"); !vm.Halted {
		t.Errorf("%+v", vm)
	}
	goOn()
	plug := func() error { _, err := b.l.Plug(t.Context(), vm, nic); return err }
	err = plug()
	for deadline := time.Now().Add(longEnough); stillAtIt(err) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		err = plug()
	}
	if err != nil {
		t.Errorf("it goes on: %v", err)
	}
	left()
}

// stillAtIt says that libvirtd works off what it was asked before.
func stillAtIt(err error) bool {
	return err != nil && (errors.Is(err, vmnetd.ErrBusy) || strings.Contains(err.Error(), "libvirtd does not answer"))
}

// A change that nobody waited for is waited for by the next one who comes.
func TestAChangeWithoutAnswerIsWaitedFor(t *testing.T) {
	b := newLvBed(t)
	vm := b.create("vm1")
	nic := b.device("net0", 1)
	session, err := b.l.session()
	if err != nil {
		t.Fatal(err)
	}
	uuid, _ := uuidOf(vm)
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_ = unix.Kill(session.pid, unix.SIGSTOP)
	goOn := func() { _ = unix.Kill(session.pid, unix.SIGCONT) }
	defer goOn()
	err = b.l.change(ctx, uuid, func(lv *libvirt.Libvirt) error {
		return lv.DomainAttachDeviceFlags(libvirt.Domain{Name: "vm1", UUID: uuid}, nicElement(nic).XML(), uint32(libvirt.DomainDeviceModifyLive))
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	go func() { stopped <- b.l.Unplug(t.Context(), vm, nic) }()
	goOn()
	if err := <-stopped; err != nil {
		t.Errorf("Unplug: %v", err)
	}
	if text := b.netdevs("vm1"); strings.TrimSpace(text) != "" {
		t.Errorf("left: %s", text)
	}
}
