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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/bootimage"
)

// bootLimit is how long a guest may take to its first prompt: it needs 8 s on
// an idle machine without KVM, and machines that run tests are not idle.
const bootLimit = 3 * time.Minute

// GuestOptions says what machine a guest gets.
type GuestOptions struct {
	Name      string   // the VM's name (-name guest=)
	QMPSocket string   // path where QEMU listens, "" for none
	SMP       int      // virtual CPUs, 1 when 0
	Machine   string   // QEMU machine type, q35 when ""
	RootPorts int      // PCIe ports with nothing in them (q35 only), 2 when 0
	Wrap      []string // a command that QEMU's command line is given to: vmnetd exec VM --
	Args      []string // further QEMU arguments
	Env       []string // NAME=VALUE, added to the caller's environment
	Inherits  []int    // descriptors that QEMU gets as 3, 4, …; the caller keeps its own
	Programs  []string // files of static programs, which the guest has in its PATH

	Netns func(func() error) error // runs its argument inside a network namespace; nil for the caller's own

	saved bool // its running state is saved or restored
}

// Guest is a virtual machine with an operating system in it: Debian's kernel
// and a shell.
type Guest struct {
	Name string

	cmd     *exec.Cmd
	dir     string // console and stderr, for the post-mortem
	channel *guestChannel
	ended   chan struct{}
	once    sync.Once
}

// BootGuest boots a guest and returns when it takes commands. The guest ends
// with the test, and at once when the test's process dies.
func BootGuest(t TB, o GuestOptions) *Guest {
	t.Helper()
	return BootGuests(t, o)[0]
}

// BootGuests boots guests side by side.
func BootGuests(t TB, options ...GuestOptions) []*Guest {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	var guests []*Guest
	for _, o := range options {
		g, err := StartGuest(ctx, t, o)
		if err != nil {
			t.Fatalf("cannot start guest %s: %v", o.Name, err)
		}
		guests = append(guests, g)
	}
	for _, g := range guests {
		if err := g.WaitUp(ctx); err != nil {
			t.Fatalf("%v", err)
		}
	}
	return guests
}

// StartGuest starts a guest's QEMU and does not wait for its kernel.
func StartGuest(ctx context.Context, t TB, o GuestOptions) (*Guest, error) {
	t.Helper()
	dir := t.TempDir()
	image, err := BuildGuestImage(ctx, dir, o.Programs...)
	if err != nil {
		return nil, err
	}
	g, err := launchGuest(dir, o, append(o.command(dir), image.Args()...))
	if err != nil {
		return nil, err
	}
	t.Cleanup(g.Kill)
	return g, nil
}

// launchGuest starts a guest that its caller ends.
func launchGuest(dir string, o GuestOptions, argv []string) (*Guest, error) {
	g := &Guest{Name: o.Name, dir: dir, ended: make(chan struct{})}
	if err := g.start(argv, o); err != nil {
		return nil, err
	}
	return g, nil
}

// WaitUp waits until the guest takes commands.
func (g *Guest) WaitUp(ctx context.Context) error {
	if err := g.channel.waitReady(ctx); err != nil {
		return fmt.Errorf("guest %s did not come up: %w\n%s", g.Name, err, g.postMortem())
	}
	return nil
}

// GuestExitError says that a command in a guest ended with a code that is not 0.
type GuestExitError struct {
	Code   int
	Output string
}

func (e *GuestExitError) Error() string {
	return fmt.Sprintf("exit code %d: %s", e.Code, strings.TrimSpace(e.Output))
}

// Run runs a shell script in the guest and returns what it printed, stdout and
// stderr together. A code that is not 0 is a *GuestExitError. When ctx ends first,
// the script is killed in the guest as well.
func (g *Guest) Run(ctx context.Context, script string) (string, error) {
	out, code, err := g.channel.run(ctx, script)
	switch {
	case err != nil:
		return out, fmt.Errorf("guest %s: %w\n%s", g.Name, err, g.postMortem())
	case code != 0:
		return out, &GuestExitError{Code: code, Output: out}
	}
	return out, nil
}

// WaitIface waits until the guest has a NIC with that MAC and returns what the
// guest calls it.
func (g *Guest) WaitIface(ctx context.Context, mac net.HardwareAddr) (string, error) {
	return waitIface(ctx, g, mac)
}

// WaitNoIface waits until the guest has no NIC with that MAC any more.
func (g *Guest) WaitNoIface(ctx context.Context, mac net.HardwareAddr) error {
	return waitNoIface(ctx, g, mac)
}

// shell is a guest that runs scripts.
type shell interface {
	Run(ctx context.Context, script string) (string, error)
}

func waitIface(ctx context.Context, g shell, mac net.HardwareAddr) (string, error) {
	out, err := g.Run(ctx, fmt.Sprintf(`
		until f=$(grep -lix %s /sys/class/net/*/address); do sleep 0.1; done
		basename "${f%%/address}"`, mac))
	if err != nil {
		return "", fmt.Errorf("no NIC with MAC %s: %w", mac, err)
	}
	return strings.TrimSpace(out), nil
}

func waitNoIface(ctx context.Context, g shell, mac net.HardwareAddr) error {
	_, err := g.Run(ctx, fmt.Sprintf(`while grep -qix %s /sys/class/net/*/address; do sleep 0.1; done`, mac))
	return err
}

// PID is QEMU's.
func (g *Guest) PID() int { return g.cmd.Process.Pid }

// Ended is closed when QEMU has ended, for whatever reason.
func (g *Guest) Ended() <-chan struct{} { return g.ended }

// Kill ends QEMU as a power cut would and waits until it is gone.
func (g *Guest) Kill() {
	g.once.Do(func() { _ = g.cmd.Process.Kill() })
	<-g.ended
}

func (g *Guest) start(argv []string, o GuestOptions) error {
	inside := o.Netns
	if inside == nil {
		inside = func(f func() error) error { return f() }
	}
	started := make(chan error, 1)
	go func() {
		defer close(g.ended)
		// The kernel sends Pdeathsig when the *thread* that started the child ends
		// (prctl(2)), so this one stays, in its namespace, until QEMU is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := inside(func() error { return g.live(argv, o, started) })
		select {
		case started <- err: // it never began
		default:
		}
	}()
	return <-started
}

// live is QEMU from its start to its end.
func (g *Guest) live(argv []string, o GuestOptions, started chan<- error) error {
	says, err := os.Create(filepath.Join(g.dir, "stderr"))
	if err != nil {
		return err
	}
	defer says.Close()
	g.cmd = exec.Command(argv[0], argv[1:]...)
	// A group of its own: a Ctrl-C at the terminal is for the program that
	// started us, which ends its guests in order.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	g.cmd.Env = append(os.Environ(), o.Env...)
	g.cmd.Stderr = says
	stdin, err := g.cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := g.startWith(o.Inherits); err != nil {
		return err
	}
	g.channel = newGuestChannel(stdin, g.ended)
	started <- nil
	g.channel.read(stdout)
	return g.cmd.Wait()
}

// startWith starts QEMU with descriptors, of which it gets copies.
func (g *Guest) startWith(fds []int) error {
	for _, fd := range fds {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(own), "queue")
		defer f.Close()
		g.cmd.ExtraFiles = append(g.cmd.ExtraFiles, f)
	}
	return g.cmd.Start()
}

// command is the whole command line but for kernel and initramfs.
func (o GuestOptions) command(dir string) []string {
	argv := append([]string{}, o.Wrap...)
	argv = append(argv, qemuProgram,
		"-name", "guest="+bootimage.Commas(o.Name), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-m", "128", "-smp", strconv.Itoa(max(o.SMP, 1)),
		"-serial", "file:"+bootimage.Commas(filepath.Join(dir, "console")),
		// signal=off: without it QEMU puts the terminal's Ctrl-C on this channel.
		"-chardev", "stdio,id=commands,signal=off", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=commands")
	argv = append(argv, o.processor()...)
	argv = append(argv, o.machine()...)
	if o.QMPSocket != "" {
		argv = append(argv, "-qmp", "unix:"+bootimage.Commas(o.QMPSocket)+",server=on,wait=off")
	}
	return append(argv, o.Args...)
}

// processor is one that is the same everywhere for a guest that is saved here
// and restored in the VM tier, where there is no KVM.
func (o GuestOptions) processor() []string {
	if o.saved {
		return []string{"-accel", "tcg,thread=multi", "-cpu", "qemu64"}
	}
	return bootimage.Accelerator()
}

func (o GuestOptions) machine() []string {
	if o.Machine != "" && !strings.HasPrefix(o.Machine, "q35") && !strings.HasPrefix(o.Machine, "pc-q35") {
		return []string{"-machine", o.Machine}
	}
	ports := o.RootPorts
	if ports == 0 {
		ports = 2
	}
	argv := []string{"-machine", "q35"}
	for i := range ports {
		argv = append(argv, "-device", fmt.Sprintf("pcie-root-port,id=rp%d,chassis=%d,slot=%d", i, i+1, i+1))
	}
	return argv
}

// postMortem is the end of what QEMU and the guest's kernel said.
func (g *Guest) postMortem() string {
	var b strings.Builder
	for _, name := range []string{"stderr", "console"} {
		content, err := os.ReadFile(filepath.Join(g.dir, name))
		if errors.Is(err, os.ErrNotExist) || len(bytes.TrimSpace(content)) == 0 {
			continue
		}
		fmt.Fprintf(&b, "--- %s of guest %s\n%s\n", name, g.Name, content[max(0, len(content)-2000):])
	}
	return b.String()
}
