package room

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/proc"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/tapdev"
)

func itoa(n int) string { return strconv.Itoa(n) }

func prefixes(list ...string) (ps []netip.Prefix) {
	for _, p := range list {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}

// container is a namespace that only a bind mount holds, as `ip netns add` makes one,
// with one end of a veth whose other end c0 is on the host: it goes when the
// namespace does.
func (l *lab) container(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(l.dir, "container")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := unix.Mount(ns.Path(), path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	l.ns.Create(t, rtnl.NewLink{Name: "c0", Kind: "veth", Data: rtnl.VethPeer(vmnetd.Ifname("c", "net0"), ns)})
	return path
}

func (l *lab) at(t *testing.T, path string) Place {
	t.Helper()
	p, err := l.At(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAContainersDeviceIsSettledAndItsNamespaceIsNotKept(t *testing.T) {
	l := newLab(t)
	path := l.container(t)
	p := l.at(t, path)
	if id := openNetns(t, path).ID(); p.ID() != id || p.NS().ID() != id {
		t.Errorf("%s is not %s", p.ID(), id)
	}
	dev, err := p.FindNIC(t.Context(), "c", "net0") // it has no mark yet
	if err != nil {
		t.Fatal(err)
	}
	s := tapdev.Settings{VM: "c", ID: "net0", Ifname: dev.Ifname, Name: "eth0", IPs: prefixes("192.0.2.10/24"), Routes: []tapdev.Route{
		{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1")},
	}}
	dev, err = p.Settle(t.Context(), dev, s)
	if err != nil || dev.Ifname != "eth0" || dev.Kind != vmnetd.Veth {
		t.Errorf("%+v, %v", dev, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	again := l.at(t, path)
	if found, err := again.FindNIC(t.Context(), "c", "net0"); err != nil || found.Ifname != "eth0" {
		t.Errorf("%+v, %v", found, err)
	}
	pid := peerPID(linkOf(t, again))
	_ = again.Close()
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "its process ends", func() bool { _, err := proc.StartTime(pid); return errors.Is(err, os.ErrNotExist) })
}

func TestANamespaceThatIsDeletedGoesAfterWeWereThere(t *testing.T) {
	l := newLab(t)
	path := l.container(t)
	_ = l.at(t, path).Close()
	if err := unix.Unmount(path, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace goes", func() bool { return l.gone(t, "c0") })
	_, err := l.At(t.Context(), path)
	says(t, err, vmnetd.ErrInvalid, path)
	if left, _ := filepath.Glob(filepath.Join(l.dir, "room-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestADaemonThatIsKilledLeavesNobodyInAContainer(t *testing.T) {
	l := newLab(t)
	path := l.container(t)
	p := l.at(t, path)
	pid := peerPID(linkOf(t, p))
	_ = linkOf(t, p).conn.Close() // as its end does
	eventually(t, "its process ends", func() bool { _, err := proc.StartTime(pid); return errors.Is(err, os.ErrNotExist) })
	_ = unix.Unmount(path, 0)
	eventually(t, "the namespace goes", func() bool { return l.gone(t, "c0") })
	if _, err := p.Ours(t.Context()); err == nil {
		t.Error("the place still answers")
	}
}

func (l *lab) gone(t *testing.T, name string) bool {
	_, err := l.ns.Conn().LinkByName(t.Context(), name)
	return errors.Is(err, vmnetd.ErrNotFound)
}

func TestWhatIsNoNamespaceOfOthersIsRefused(t *testing.T) {
	l := newLab(t)
	file := filepath.Join(l.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(l.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, class := range map[string]error{
		filepath.Join(l.dir, "nowhere"): vmnetd.ErrNotFound,
		file + "/x":                     vmnetd.ErrNotFound,
		"/proc/4194304/ns/net":          vmnetd.ErrNotFound,
		file:                            vmnetd.ErrInvalid,
		fifo:                            vmnetd.ErrInvalid,
		l.dir:                           vmnetd.ErrInvalid,
		"/dev/null":                     vmnetd.ErrInvalid,
		"/proc/self/ns/mnt":             vmnetd.ErrInvalid,
		"relative":                      vmnetd.ErrInvalid,
		"":                              vmnetd.ErrInvalid,
		l.ns.Path():                     vmnetd.ErrInvalid,
	} {
		p, err := l.At(t.Context(), path)
		if err == nil {
			_ = p.Close()
		}
		says(t, err, class, fmt.Sprint(path))
	}
}

func TestAtIsManyPlacesAtOnce(t *testing.T) {
	l := newLab(t)
	var places []Place
	for range 4 {
		ns := testkit.NewNetns(t)
		p := l.at(t, ns.Path())
		if !p.NS().Same(ns.NS()) {
			t.Errorf("%s is another one", p.ID())
		}
		places = append(places, p)
	}
	for _, p := range places {
		_ = p.Close()
	}
}
