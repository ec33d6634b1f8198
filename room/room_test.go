package room

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/tapdev"
)

// TestMain is `vmnetd room` too: its version is the name that it is run by.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "room" {
		if err := asRoom(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "vmnetd:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		asDaemon(os.Args[2])
	}
	testkit.LeakCheck(m)
}

func asRoom(args []string) error {
	o := ServeOptions{Version: filepath.Base(os.Args[0])}
	fs := flag.NewFlagSet("room", flag.ContinueOnError)
	fs.StringVar(&o.Socket, "socket", "", "")
	fs.StringVar(&o.Netns, "netns", "", "")
	fs.IntVar(&o.Listener, "listener", 0, "")
	fs.BoolVar(&o.Quiet, "quiet", false, "")
	try := fs.Bool("try", false, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *try {
		return Try(context.Background(), o)
	}
	o.Ready = func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) }
	return Serve(context.Background(), o)
}

// asDaemon makes vmnetd's own namespace and then waits for its end.
func asDaemon(dir string) {
	conn, err := rtnl.Open()
	program, _ := os.Executable()
	if err == nil {
		_, err = New(Options{RunDir: dir, Conn: conn, Starter: Child{Program: program}}).Own(context.Background(), true)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("made")
	select {}
}

// lab is a host whose uplink u0 leads outside, with rooms.
type lab struct {
	*Rooms
	o       Options
	dir     string
	ns      *testkit.Netns
	devices *tapdev.Host
}

func newLab(t *testing.T) *lab {
	t.Helper()
	testkit.Require(t, "netns")
	l := &lab{ns: testkit.NewNetns(t), dir: shortDir(t)}
	out := testkit.NewNetns(t)
	testkit.NewVeth(t, l.ns, "u0", out, "o0")
	l.devices = tapdev.New(l.ns.Conn(), nil, nil)
	t.Cleanup(func() { _ = l.devices.Close() })
	filters, err := filter.Open(l.ns.Conn())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filters.Close() })
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l.o = Options{
		RunDir: l.dir, Conn: l.ns.Conn(), Devices: l.devices, Filters: filters, Starter: Child{Program: program},
		Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	l.Rooms = l.again(t)
	t.Cleanup(l.end)
	return l
}

// testLog is the log of what still runs while the test does.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

// shortDir is a folder for sockets: their paths have 107 bytes at the most.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnroom")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// again is Rooms as after a restart of the daemon.
func (l *lab) again(t *testing.T) *Rooms {
	t.Helper()
	r := New(l.o)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// pid is the process that listens at vmnetd's own socket, 0 when none does.
func (l *lab) pid() int {
	d, err := dial(context.Background(), l.socket())
	if err != nil {
		return 0
	}
	defer d.close()
	return peerPID(d)
}

func peerPID(l *link) int {
	cred, err := peer(l.conn)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// end kills the process that holds the lab's namespace, and waits for its end.
func (l *lab) end() {
	pid := l.pid()
	if pid == 0 {
		return
	}
	p, err := proc.Open(pid, 0)
	if err != nil {
		return
	}
	defer p.Close()
	_ = p.Kill()
	_ = p.Wait(context.Background())
}

func (l *lab) own(t *testing.T, r *Rooms) Place {
	t.Helper()
	p, err := r.Own(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// guest is a device of VM a's net0, moved to a place.
func (l *lab) guest(t *testing.T, p Place) tapdev.Device {
	t.Helper()
	name := vmnetd.Ifname("a", "net0")
	l.ns.Create(t, rtnl.NewLink{Name: name, Kind: "macvlan", Lower: l.ns.Link(t, "u0").Index, Data: rtnl.MacvlanMode("bridge")})
	l.ns.Set(t, name, rtnl.Alias(vmnetd.Alias("a", "net0")))
	dev, err := l.Here().FindNIC(t.Context(), "a", "net0")
	if err == nil {
		err = l.devices.Move(t.Context(), dev, p.NS())
	}
	if err == nil {
		dev, err = p.FindNIC(t.Context(), "a", "net0")
	}
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// says fails the test unless err is of a class and has all parts in it.
func says(t *testing.T, err error, class error, parts ...string) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("%v is not %v", err, class)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testkit.Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// status is a number of /proc/PID/status, added up over all threads.
func status(t *testing.T, pid int, name string) (sum int) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		_, rest, _ := strings.Cut(string(b), name+":")
		line, _, _ := strings.Cut(rest, "\n")
		n, _ := strconv.Atoi(strings.TrimSpace(line))
		sum += n
	}
	return sum
}

func openNetns(t *testing.T, path string) *netns.NS {
	t.Helper()
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func linkOf(t *testing.T, p Place) *link {
	t.Helper()
	r, ok := p.(*remote)
	if !ok {
		t.Fatalf("%T has no process", p)
	}
	return r.link
}
