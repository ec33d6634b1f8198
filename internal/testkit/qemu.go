package testkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vmnetd/vmnetd/internal/bootimage"
)

// qemuProgram is the emulator that the tests drive.
const qemuProgram = "qemu-system-x86_64"

// qemuLimit is how long a QEMU may take to answer its first command, also on a
// machine with two busy cores.
const qemuLimit = 30 * time.Second

var qemuCount atomic.Int64 // makes names unique within the process; the PID does across processes

// QEMUOptions says what StartQEMU starts. The zero value is a q35 machine that
// never runs an instruction.
type QEMUOptions struct {
	Name      string // of the guest; "" for one that no other test uses
	NoName    bool   // start without -name: query-name has none then
	Machine   string // q35 (default) or pc
	RootPorts int    // pcie-root-ports rp0, rp1, … on q35
	Args      []string
	Running   bool                     // let the CPUs run; otherwise the guest stays paused (-S)
	UUID      string                   // "" for none: query-uuid is all zero then
	SMP       int                      // virtual CPUs, default 1
	MemoryMiB int                      // default 64
	QMPDir    string                   // where Socket goes, as NAME.sock; "" for a directory of its own
	Socket    string                   // full path instead of QMPDir/NAME.sock
	Netns     func(func() error) error // runs its argument inside a network namespace; nil for the caller's own
	Stderr    *bytes.Buffer            // what QEMU prints; nil for the test's log when it fails
}

// QEMU is a running emulator.
type QEMU struct {
	Name   string
	PID    int
	Socket string // QMP, for the code under test

	t       TB
	control string // QMP, for the test itself: two clients never meet
	gone    chan struct{}
	err     error // of Wait; read it after gone is closed
	says    *bytes.Buffer
}

// StartQEMU starts a QEMU without any device that the test did not ask for and
// returns once it answers on QMP. It is killed when the test ends, or its
// process does.
func StartQEMU(t TB, o QEMUOptions) *QEMU {
	t.Helper()
	if o.Name == "" {
		o.Name = fmt.Sprintf("vm%d-%d", os.Getpid(), qemuCount.Add(1))
	}
	// Not t.TempDir: a socket path has at most 107 bytes.
	own, err := os.MkdirTemp("", "vmnqemu")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { os.RemoveAll(own) })
	if o.QMPDir == "" {
		o.QMPDir = own
	}
	if o.Socket == "" {
		o.Socket = filepath.Join(o.QMPDir, o.Name+".sock")
	}
	q := &QEMU{Name: o.Name, Socket: o.Socket, t: t, control: filepath.Join(own, ".control"), gone: make(chan struct{}), says: o.Stderr}
	if q.says == nil {
		q.says = &bytes.Buffer{}
	}
	q.start(o)
	t.Cleanup(q.Kill)
	if _, err := q.qmp("query-status", nil, qemuLimit); err != nil {
		q.Kill()
		t.Fatalf("%s does not answer: %v\n%s", qemuProgram, err, q.says)
	}
	return q
}

func (q *QEMU) start(o QEMUOptions) {
	q.t.Helper()
	started := make(chan error, 1)
	go q.run(o, started)
	if err := <-started; err != nil {
		q.t.Fatalf("cannot start %s: %v", qemuProgram, err)
	}
}

// run owns the process. The thread stays with it: Pdeathsig fires when the
// thread that forked ends (prctl(2)), not when the process does; so the whole
// life of QEMU is spent inside Netns, whose thread may end with it.
func (q *QEMU) run(o QEMUOptions, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(q.gone)
	inside := o.Netns
	if inside == nil {
		inside = func(f func() error) error { return f() }
	}
	begun := false
	err := inside(func() error {
		cmd := exec.Command(qemuProgram, q.args(o)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stdout, cmd.Stderr = q.says, q.says
		if dir := filepath.Dir(q.Socket); len(q.Socket) > maxSocketPath {
			cmd.Dir = dir
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		q.PID, begun = cmd.Process.Pid, true
		started <- nil
		q.err = cmd.Wait()
		return nil
	})
	if !begun {
		if err == nil {
			err = errors.New("Netns did not run its argument")
		}
		started <- err
	}
}

// maxSocketPath is what sun_path holds, without the NUL (unix(7)).
const maxSocketPath = 107

func (q *QEMU) args(o QEMUOptions) []string {
	if o.Machine == "" {
		o.Machine = "q35"
	}
	if o.SMP == 0 {
		o.SMP = 1
	}
	if o.MemoryMiB == 0 {
		o.MemoryMiB = 64
	}
	socket := q.Socket
	if len(socket) > maxSocketPath {
		socket = filepath.Base(socket)
	}
	args := []string{
		"-nodefaults", "-display", "none", "-accel", "tcg", "-machine", o.Machine,
		"-m", strconv.Itoa(o.MemoryMiB), "-smp", strconv.Itoa(o.SMP),
		"-qmp", "unix:" + bootimage.Commas(socket) + ",server=on,wait=off",
		"-qmp", "unix:" + bootimage.Commas(q.control) + ",server=on,wait=off",
	}
	if !o.NoName {
		args = append(args, "-name", "guest="+bootimage.Commas(o.Name)+",debug-threads=on")
	}
	if !o.Running {
		args = append(args, "-S")
	}
	if o.UUID != "" {
		args = append(args, "-uuid", o.UUID)
	}
	for i := range o.RootPorts {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=rp%d,chassis=%d", i, i+1))
	}
	return append(args, o.Args...)
}

// Kill ends QEMU with SIGKILL and waits until it is gone; its socket stays
// behind, as after a crash. Calling it again does nothing.
func (q *QEMU) Kill() {
	q.signal(syscall.SIGKILL)
	<-q.gone
}

// Stop freezes QEMU: it answers nothing until Cont.
func (q *QEMU) Stop() {
	q.signal(syscall.SIGSTOP)
	deadline := time.Now().Add(qemuLimit)
	for q.state() != "T" && time.Now().Before(deadline) {
		runtime.Gosched() // the signal is delivered to each thread in its own time
	}
}

// Cont lets a frozen QEMU go on.
func (q *QEMU) Cont() { q.signal(syscall.SIGCONT) }

// Wait waits until QEMU has ended by itself and says how.
func (q *QEMU) Wait() error {
	<-q.gone
	return q.err
}

// Gone is closed when QEMU has ended.
func (q *QEMU) Gone() <-chan struct{} { return q.gone }

func (q *QEMU) signal(sig syscall.Signal) {
	select {
	case <-q.gone:
	default:
		_ = syscall.Kill(q.PID, sig)
	}
}

func (q *QEMU) state() string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", q.PID))
	_, rest, _ := strings.Cut(string(b), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// QMP runs one command on a socket of its own, so that it never gets into the
// way of the code under test, and fails the test when QEMU refuses it.
func (q *QEMU) QMP(command string, args any) json.RawMessage {
	q.t.Helper()
	out, err := q.qmp(command, args, qemuLimit)
	if err != nil {
		q.t.Fatalf("%s: %v", command, err)
	}
	return out
}

// TryQMP is QMP for a command that may fail.
func (q *QEMU) TryQMP(command string, args any) (json.RawMessage, error) {
	return q.qmp(command, args, qemuLimit)
}

func (q *QEMU) qmp(command string, args any, limit time.Duration) (json.RawMessage, error) {
	deadline := time.Now().Add(limit)
	conn, err := q.dial(deadline)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	dec := json.NewDecoder(conn)
	if _, err := nextReply(dec); err != nil { // the greeting
		return nil, err
	}
	if _, err := ask(conn, dec, "qmp_capabilities", nil); err != nil {
		return nil, err
	}
	return ask(conn, dec, command, args)
}

func ask(conn net.Conn, dec *json.Decoder, command string, args any) (json.RawMessage, error) {
	err := json.NewEncoder(conn).Encode(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return nil, err
	}
	return nextReply(dec)
}

// dial connects; the node is there a moment before QEMU listens on it.
func (q *QEMU) dial(deadline time.Time) (net.Conn, error) {
	for {
		conn, err := net.Dial("unix", q.control)
		if err == nil {
			return conn, nil
		}
		select {
		case <-q.gone:
			return nil, fmt.Errorf("ended: %w", q.err)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
}

func nextReply(dec *json.Decoder) (json.RawMessage, error) {
	for {
		var m struct {
			Return json.RawMessage
			QMP    json.RawMessage
			Error  *struct{ Class, Desc string }
		}
		if err := dec.Decode(&m); err != nil {
			return nil, err
		}
		switch {
		case m.Error != nil:
			return nil, fmt.Errorf("%s: %s", m.Error.Class, m.Error.Desc)
		case m.Return != nil || m.QMP != nil:
			return m.Return, nil
		}
	}
}
