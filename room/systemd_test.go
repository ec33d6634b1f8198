package room

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/internal/vmtest"
	"github.com/vmnetd/vmnetd/tapdev"
)

// systemdEnv says to the test that it is inside the VM.
const systemdEnv = "VMNETD_TEST_SYSTEMD"

// TestHostUnitsOfSystemd boots a host with systemd, which makes and enters the
// namespaces.
func TestHostUnitsOfSystemdHoldOurNamespaceAndVisitOthers(t *testing.T) {
	testkit.Require(t, "netns")
	if os.Getenv(systemdEnv) != "" {
		underSystemd(t)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out testkit.Output
	code, err := vmtest.Run(t.Context(), vmtest.Options{
		Command: []string{program, "-test.run=^" + t.Name() + "$", "-test.v"},
		Env:     []string{systemdEnv + "=1"},
		Systemd: true, Stdout: &out, Stderr: &out, Limit: 3 * time.Minute,
	})
	if code != 0 || err != nil {
		t.Errorf("exit code %d, %v\n%s", code, err, out.String())
	}
}

func underSystemd(t *testing.T) {
	l := newLab(t)
	if err := os.Mkdir("/run/vmnetd", 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l.dir, l.o.RunDir, l.o.Starter = "/run/vmnetd", "/run/vmnetd", Units{Program: program}
	l.Rooms = l.again(t)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("journalctl", "--no-pager", "--boot", "--unit=vmnetd-room*").CombinedOutput()
			t.Logf("%s", out)
		}
	})
	p := l.own(t, l.Rooms)
	l.isSandboxed(t, p)
	l.isSettled(t, p)
	if again := l.own(t, l.again(t)); again.ID() != p.ID() {
		t.Error("it is not found again")
	}
	l.visits(t)
	pid := l.pid()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end is noticed", func() bool { return l.found() == nil })
	if devs, err := l.own(t, l.Rooms).Ours(t.Context()); err != nil || len(devs) > 0 { // its number may be the same
		t.Errorf("the namespace outlived its process, with %+v, %v", devs, err)
	}
}

// isSandboxed holds that the unit is in a namespace of its own and has what it needs
// and no more.
func (l *lab) isSandboxed(t *testing.T, p Place) {
	t.Helper()
	show := run(t, "systemctl", "show", "vmnetd-room.service", "--property=MainPID,ActiveState,PrivateNetwork,IgnoreOnIsolate")
	for _, want := range []string{"ActiveState=active", "PrivateNetwork=yes", "IgnoreOnIsolate=yes", "MainPID=" + itoa(l.pid())} {
		if !strings.Contains(show, want) {
			t.Errorf("%s is not in\n%s", want, show)
		}
	}
	status, err := os.ReadFile(filepath.Join("/proc", itoa(l.pid()), "status"))
	caps := fmt.Sprintf("CapBnd:\t%016x", 1<<unix.CAP_NET_ADMIN|1<<unix.CAP_NET_RAW|1<<unix.CAP_BPF|1<<unix.CAP_PERFMON)
	if err != nil || !strings.Contains(string(status), caps) {
		t.Errorf("%s is not in\n%s %v", caps, status, err)
	}
	if st, err := os.Stat(l.socket()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket has %v, %v", st, err)
	}
	if p.ID() == openNetns(t, "/proc/1/ns/net").ID() {
		t.Error("it is in the host's namespace")
	}
}

func (l *lab) isSettled(t *testing.T, p Place) {
	t.Helper()
	dev := l.guest(t, p)
	dev, err := p.Settle(t.Context(), dev, tapdev.Settings{VM: "a", ID: "net0", Guest: true, IPs: prefixes("192.0.2.10/32", "2001:db8::10/128")})
	if err != nil || len(dev.IPs) != 2 {
		t.Fatalf("%+v, %v", dev, err)
	}
	if err := p.SetUp(t.Context(), dev, true); err != nil {
		t.Error(err)
	}
}

// visits holds that a unit that was in a container's namespace is gone with its
// connection, and so is the namespace once it is deleted.
func (l *lab) visits(t *testing.T) {
	t.Helper()
	run(t, "ip", "netns", "add", "box")
	ns := openNetns(t, "/run/netns/box")
	name := vmnetd.Ifname("c", "net0")
	l.ns.Create(t, rtnl.NewLink{Name: "c0", Kind: "veth", Data: rtnl.VethPeer(name, ns)})
	p := l.at(t, "/run/netns/box")
	if p.ID() != ns.ID() {
		t.Errorf("%s is not %s", p.ID(), ns.ID())
	}
	s := tapdev.Settings{VM: "c", ID: "net0", Ifname: name, Name: "eth0", IPs: prefixes("192.0.2.20/24", "2001:db8::20/64")}
	if dev, err := p.Settle(t.Context(), tapdev.Device{}, s); err != nil || dev.Ifname != "eth0" {
		t.Errorf("%+v, %v", dev, err)
	}
	if err := errors.Join(p.Close(), ns.Close()); err != nil {
		t.Error(err)
	}
	run(t, "ip", "netns", "del", "box")
	eventually(t, "the namespace goes", func() bool { return l.gone(t, "c0") })
	eventually(t, "the unit is forgotten", func() bool {
		return strings.Count(run(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", "vmnetd-room*"), "\n") == 1
	})
	_, err := l.At(t.Context(), "/run/netns/box")
	says(t, err, vmnetd.ErrNotFound)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
