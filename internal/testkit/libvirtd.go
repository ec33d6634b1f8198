package testkit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// LibvirtdOptions says which libvirtd is started.
type LibvirtdOptions struct {
	Netns func(func() error) error // runs its argument inside a network namespace; nil for the caller's own
	Conf  string                   // more lines of libvirtd.conf
	Hook  string                   // the script that is its qemu hook from the start on; "" for none
}

// Libvirtd is a libvirtd of our own with folders of its own. It and every QEMU
// that it starts live in a pid namespace and end with the test, and at once when
// the test's process dies.
type Libvirtd struct {
	Socket string // for libvirt-sock clients
	URI    string // for virsh --connect and hypervisors: libvirt: uri:
	Dir    string
	Hooks  string // the folder that is /etc/libvirt/hooks to it

	t     TB
	tell  io.WriteCloser
	says  Output
	ended chan struct{}

	imageOnce sync.Once
	image     GuestImage
}

// keeper is the first process of the pid namespace. It gives libvirtd folders in
// place of the machine's, starts and kills it when it is told to, and stays while
// libvirtd goes, so that the guests do. It is bash because that reaps the orphans of
// a pid namespace while it reads: libvirtd waits 40 s for each that it has killed.
const keeper = `set -e
cd "$0"
mkdir -p /run /var/lib/libvirt /etc/libvirt /var/log/libvirt /var/cache/libvirt
mount -t proc proc /proc
case $TMPDIR in /run/*) # bus and program of a hook
	mkdir -p "run/${TMPDIR#/run/}"
	mount --bind "$TMPDIR" "run/${TMPDIR#/run/}"
	;;
esac
mount --rbind run /run
mount --bind lib /var/lib/libvirt
mount --bind etc /etc/libvirt
mount --bind log /var/log/libvirt
mount --bind cache /var/cache/libvirt
set +e
pid=
while read -r word; do
	case $word in
	start) rm -f /run/libvirtd.pid; libvirtd </dev/null & pid=$! ;;
	kill) kill -9 $pid; wait $pid 2>/dev/null; echo "killed $pid" >&2 ;;
	esac
done
`

// What a confined libvirtd would need of the machine is switched off.
const (
	libvirtQEMUConf = `user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
dynamic_ownership = 0
`
	libvirtdConf = `auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
`
)

// libvirtdPatience is for a first domain, for which libvirtd asks QEMU what it can.
const libvirtdPatience = 5 * time.Minute

// StartLibvirtd starts a libvirtd and returns when it answers.
func StartLibvirtd(t TB, o LibvirtdOptions) *Libvirtd {
	t.Helper()
	// Not t.TempDir: a socket path has at most 107 bytes.
	dir, err := os.MkdirTemp(libvirtdParent(), "vmnlv")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &Libvirtd{t: t, Dir: dir, Socket: filepath.Join(dir, "run/libvirt/libvirt-sock"), Hooks: filepath.Join(dir, "etc/hooks"), ended: make(chan struct{})}
	l.URI = "qemu:///system?socket=" + l.Socket
	for _, d := range []string{"run", "lib", "etc/hooks/qemu.d", "log", "cache"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatalf("%v", err)
		}
	}
	uuid, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		t.Fatalf("%v", err)
	}
	for name, content := range map[string]string{
		"etc/qemu.conf": libvirtQEMUConf, "etc/libvirtd.conf": libvirtdConf + fmt.Sprintf("host_uuid = %q\n", strings.TrimSpace(string(uuid))) + o.Conf,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if o.Hook != "" {
		if err := os.WriteFile(filepath.Join(l.Hooks, "qemu.d/test"), []byte(o.Hook), 0o700); err != nil {
			t.Fatalf("%v", err)
		}
	}
	l.recall()
	l.keep(o)
	t.Cleanup(l.end)
	l.Start()
	return l
}

// libvirtdParent is not beneath /run, in whose place libvirtd has a folder of its
// own: paths of guests are the same inside and outside.
func libvirtdParent() string {
	if dir := os.TempDir(); !strings.HasPrefix(dir, "/run/") {
		return dir
	}
	return "/var/tmp"
}

// keep starts the keeper.
func (l *Libvirtd) keep(o LibvirtdOptions) {
	l.t.Helper()
	in, tell, err := os.Pipe()
	if err != nil {
		l.t.Fatalf("%v", err)
	}
	defer in.Close()
	l.tell = tell
	cmd := exec.Command("bash", "-c", keeper, l.Dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &l.says, &l.says
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	inside := o.Netns
	if inside == nil {
		inside = func(f func() error) error { return f() }
	}
	started := make(chan error, 1)
	go func() {
		defer close(l.ended)
		runtime.LockOSThread() // Pdeathsig comes when the thread that started the child ends (prctl(2))
		defer runtime.UnlockOSThread()
		err := inside(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				_ = cmd.Wait()
			}
			return nil
		})
		select {
		case started <- err: // it never began
		default:
		}
	}()
	if err := <-started; err != nil {
		l.t.Fatalf("cannot start libvirtd: %v", err)
	}
}

// Start starts libvirtd again after Kill and returns when it answers.
func (l *Libvirtd) Start() {
	l.t.Helper()
	l.say("start")
	ctx, cancel := context.WithTimeout(context.Background(), libvirtdPatience)
	defer cancel()
	for {
		out, err := l.virsh(ctx, "list")
		if err == nil {
			return
		}
		select {
		case <-l.ended:
			l.t.Fatalf("libvirtd ended\n%s", l.says.String())
		case <-ctx.Done():
			l.t.Fatalf("libvirtd does not answer: %v: %s\n%s", err, out, l.says.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Kill ends libvirtd with SIGKILL and returns when it is gone. Its guests go on.
func (l *Libvirtd) Kill() {
	l.t.Helper()
	was := strings.Count(l.says.String(), "killed ")
	l.say("kill")
	deadline := time.Now().Add(Patience)
	for strings.Count(l.says.String(), "killed ") == was {
		if time.Now().After(deadline) {
			l.t.Fatalf("libvirtd does not end\n%s", l.says.String())
		}
		time.Sleep(time.Millisecond)
	}
}

func (l *Libvirtd) say(word string) {
	l.t.Helper()
	if _, err := io.WriteString(l.tell, word+"\n"); err != nil {
		l.t.Fatalf("libvirtd's keeper: %v\n%s", err, l.says.String())
	}
}

// end ends libvirtd and its guests: without its first process a pid namespace
// has none (pid_namespaces(7)). The keeper ends with its input.
func (l *Libvirtd) end() {
	_ = l.tell.Close()
	<-l.ended
	l.remember()
}

// Log is what libvirtd has said.
func (l *Libvirtd) Log() string { return l.says.String() }

// Virsh runs a virsh command and fails the test when it fails.
func (l *Libvirtd) Virsh(args ...string) string {
	l.t.Helper()
	out, err := l.TryVirsh(args...)
	if err != nil {
		l.t.Fatalf("virsh %s: %v\n%s", strings.Join(args, " "), err, l.says.String())
	}
	return out
}

// TryVirsh is Virsh for a command that may fail; the error holds what it said.
func (l *Libvirtd) TryVirsh(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), libvirtdPatience)
	defer cancel()
	return l.virsh(ctx, args...)
}

func (l *Libvirtd) virsh(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "virsh", append([]string{"--quiet", "--connect", l.URI}, args...)...)
	var out, says bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &says
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(says.String()))
	}
	return out.String(), nil
}
