package vmtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/vmnetd/vmnetd/internal/bootimage"
)

// args is QEMU's command line. Standard output of the command comes out of
// QEMU's own, standard error out of descriptor 3 (append: a pipe cannot be
// truncated).
func (i image) args(o Options, dir string) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none", "-machine", "q35",
		"-m", strconv.Itoa(o.MemoryMiB), "-smp", strconv.Itoa(o.CPUs),
		"-kernel", i.kernel, "-initrd", i.initrd, "-append", bootimage.CommandLine,
		"-serial", "file:" + bootimage.Commas(filepath.Join(dir, "console")),
		// signal=off: without it QEMU puts the terminal's Ctrl-C on this channel.
		"-chardev", "stdio,id=out,signal=off",
		"-add-fd", "fd=3,set=1", "-chardev", "file,id=err,append=on,path=/dev/fdset/1",
		"-device", "virtio-serial-pci",
		"-virtfs", "local,mount_tag=root,path=/,security_model=none,readonly=on,multidevs=remap",
	}
	args = append(args, bootimage.Accelerator()...)
	if o.Terminal != nil {
		args = append(args, "-device", "virtconsole,chardev=out")
	} else {
		args = append(args, "-device", "virtserialport,chardev=out,nr=1", "-device", "virtserialport,chardev=err,nr=2")
	}
	for n, share := range o.shares() {
		args = append(args, "-virtfs",
			"local,mount_tag="+shareTag(n)+",security_model=none,multidevs=remap,path="+bootimage.Commas(share[0]))
	}
	return args
}

// machine is a QEMU that runs.
type machine struct {
	stdin          *os.File // to the terminal's input
	stdout, stderr *os.File // of the command, with marks

	dir   string
	ended chan struct{}
}

// startMachine starts QEMU, which is killed when ctx ends, or this process.
func startMachine(ctx context.Context, dir string, args []string) (*machine, error) {
	says, err := os.Create(filepath.Join(dir, "qemu"))
	if err != nil {
		return nil, err
	}
	defer says.Close()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Stderr = says
	// A group of its own: a Ctrl-C at the terminal is for this program, which
	// kills the VM.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}

	m := &machine{dir: dir, ended: make(chan struct{})}
	theirs, err := m.connect(cmd)
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	started := make(chan error, 1)
	if err == nil {
		go m.live(cmd, started)
		err = <-started
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("cannot start QEMU: %w", err)
	}
	return m, nil
}

// connect makes the pipes; it returns QEMU's ends of them.
func (m *machine) connect(cmd *exec.Cmd) ([]*os.File, error) {
	var theirs []*os.File
	var err error
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	stdin, mine := pipe()
	m.stdin = mine
	var stdout, stderr *os.File
	m.stdout, stdout = pipe()
	m.stderr, stderr = pipe()
	for _, f := range []*os.File{stdin, stdout, stderr} {
		if f != nil {
			theirs = append(theirs, f)
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = stdin, stdout, []*os.File{stderr}
	return theirs, err
}

// live is QEMU from its start to its end. The thread stays with it: Pdeathsig
// comes when the thread that started the child ends (prctl(2)).
func (m *machine) live(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(m.ended)
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait() // it is killed when it has done its work
	}
}

// wait waits until QEMU, which has been killed, is gone.
func (m *machine) wait() {
	<-m.ended
	m.close()
}

func (m *machine) close() {
	for _, f := range []*os.File{m.stdin, m.stdout, m.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// postMortem is the end of what QEMU and the VM's kernel said.
func (m *machine) postMortem() string {
	const most = 4000
	var b strings.Builder
	for _, name := range []string{"qemu", "console"} {
		content, _ := os.ReadFile(filepath.Join(m.dir, name))
		if content = bytes.TrimSpace(content); len(content) > 0 {
			fmt.Fprintf(&b, "--- end of what the VM's %s said\n%s\n", name, content[max(0, len(content)-most):])
		}
	}
	return b.String()
}
