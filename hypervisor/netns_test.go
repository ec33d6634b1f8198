package hypervisor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// newNetnsWay is a Netns whose host is a namespace of the test's own, and a folder.
func newNetnsWay(t *testing.T) (n *Netns, host *testkit.Netns, dir string) {
	t.Helper()
	testkit.Require(t, "netns")
	host, n, dir = testkit.NewNetns(t), NewNetns(), t.TempDir()
	n.open = func() (c *rtnl.Conn, err error) {
		err = host.Do(func() error {
			c, err = rtnl.Open()
			return err
		})
		return c, err
	}
	return n, host, dir
}

// mount puts a namespace at a path, as `ip netns add` does.
func mount(t *testing.T, ns *netns.NS, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(ns.Path(), path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
}

// add mounts a new namespace that nothing else holds.
func add(t *testing.T, path string) {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	mount(t, ns, path)
	_ = ns.Close()
}

func unmount(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

func findNetns(t *testing.T, n *Netns, name, path string) VM {
	t.Helper()
	vm, err := n.Find(t.Context(), name, viaNetns+path)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func isNetns(name, path string) func(Sighting) bool {
	return func(s Sighting) bool { return s == Sighting{Name: name, Via: viaNetns + path} }
}

func TestANamespaceIsFoundByItsPathAndToldFromTheNextOne(t *testing.T) {
	n, _, dir := newNetnsWay(t)
	path := dir + "/web1"
	add(t, path)
	vm := findNetns(t, n, "web1", path)
	want := VM{Name: "web1", Via: "netns:" + path, Netns: path, Running: true, Instance: vm.Instance}
	if vm.Name != want.Name || vm.Via != want.Via || vm.Netns != want.Netns || !vm.Running || vm.Trusted || !strings.HasPrefix(vm.Instance, "netns:") {
		t.Errorf("%+v", vm)
	}
	restarted := NewNetns()
	restarted.open = n.open
	if again := findNetns(t, restarted, "web1", path); again.Instance != vm.Instance {
		t.Errorf("after a restart it is %s, was %s", again.Instance, vm.Instance)
	}
	unmount(t, path)
	add(t, path)
	if next := findNetns(t, n, "web1", path); next.Instance == vm.Instance {
		t.Errorf("the next namespace at that path is %s too", next.Instance)
	}
	if names := n.Names(); !slices.Equal(names, []string{"web1"}) {
		t.Errorf("names: %v", names)
	}
}

func TestFindingANamespaceHoldsNothingOfIt(t *testing.T) {
	n, host, dir := newNetnsWay(t)
	path := dir + "/web1"
	add(t, path)
	ends, err := host.Conn().WatchNSIDs()
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan int, 1)
	go func() { _ = ends.Run(t.Context(), func(id int) { gone <- id }) }()
	before := len(testkit.OpenFDs())
	findNetns(t, n, "web1", path)
	if after := len(testkit.OpenFDs()); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	unmount(t, path)
	select {
	case <-gone:
	case <-time.After(longEnough):
		t.Error("it does not end")
	}
}

func TestWhatIsNoNamespaceIsRefusedInOneSentence(t *testing.T) {
	n, host, dir := newNetnsWay(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for via, want := range map[string]error{
		"netns:" + dir + "/nobody":                 vmnetd.ErrNotFound,
		"netns:" + write("file", "x") + "/beneath": vmnetd.ErrNotFound,
		"netns:" + write("left", ""):               vmnetd.ErrNotFound, // ip netns add's file, with nothing on it
		"netns:" + write("text", "x"):              vmnetd.ErrInvalid,
		"netns:" + pipe:                            vmnetd.ErrInvalid, // opening it would wait for ever
		"netns:" + dir:                             vmnetd.ErrInvalid,
		"netns:/dev/null":                          vmnetd.ErrInvalid,
		"netns:/proc/self/ns/mnt":                  vmnetd.ErrInvalid,
		"netns:/proc/self/status":                  vmnetd.ErrInvalid,
		"netns:" + host.Path():                     vmnetd.ErrInvalid, // the host's own
		"netns:run/netns/web1":                     vmnetd.ErrInvalid,
		"netns:/run/../run/netns/web1":             vmnetd.ErrInvalid,
		"netns:":                                   vmnetd.ErrInvalid,
		"qmp":                                      vmnetd.ErrInvalid,
	} {
		vm, err := n.Find(t.Context(), "web1", via)
		if !errors.Is(err, want) || vmnetd.NextOf(err) == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %+v, %v (next: %q), want %v", via, vm, err, vmnetd.NextOf(err), want)
		}
	}
	if _, err := n.Find(t.Context(), "../web1", "netns:"+dir); !errors.Is(err, vmnetd.ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
	if names := n.Names(); len(names) != 0 {
		t.Errorf("names: %v", names)
	}
}

func TestOnlyRootNamesNamespacesOutsideOfTheFolders(t *testing.T) {
	n, _, dir := newNetnsWay(t)
	if err := n.Configure(Config{Folders: []string{dir + "/users"}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid  uint32
		path string
		want error
	}{
		{0, dir + "/web1", nil},
		{1000, dir + "/users/web1", nil},
		{1000, dir + "/users/deep/web1", nil},
		{1000, dir + "/users", vmnetd.ErrDenied},
		{1000, dir + "/users2/web1", vmnetd.ErrDenied},
		{1000, dir + "/web1", vmnetd.ErrDenied},
		{1000, dir + "/users/../web1", vmnetd.ErrInvalid},
		{0, "web1", vmnetd.ErrInvalid},
	} {
		if err := n.Allowed(c.uid, viaNetns+c.path); !errors.Is(err, c.want) {
			t.Errorf("uid %d, %s: %v, want %v", c.uid, c.path, err, c.want)
		}
	}
}

// Whoever can write to a folder of users could lead out of it by a link.
func TestALinkBeneathAFolderOfUsersIsNotFollowed(t *testing.T) {
	n, _, dir := newNetnsWay(t)
	add(t, dir+"/other")
	if err := os.Mkdir(dir+"/users", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := n.Configure(Config{Folders: []string{dir + "/users"}}); err != nil {
		t.Fatal(err)
	}
	other := testkit.NewNetns(t)
	for name, to := range map[string]string{"link": dir + "/other", "magic": other.Path(), "folder": dir} {
		path := dir + "/users/" + name
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		if to == dir {
			path += "/other"
		}
		if vm, err := n.Find(t.Context(), "web1", viaNetns+path); !errors.Is(err, vmnetd.ErrDenied) {
			t.Errorf("%s: %+v, %v", name, vm, err)
		}
	}
	add(t, dir+"/users/web1")
	findNetns(t, n, "web1", dir+"/users/web1")
	if err := os.MkdirAll(dir+"/users/a/b", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/users/a/web2", "/users/a/b/web3"} {
		add(t, dir+path)
		findNetns(t, n, "web2", dir+path)
	}
}

func TestAskingRemembersNothing(t *testing.T) {
	n, _, dir := newNetnsWay(t)
	add(t, dir+"/web1")
	if vm, err := n.Ask(t.Context(), "web1", viaNetns+dir+"/web1"); err != nil || vm.Netns != dir+"/web1" {
		t.Fatalf("%+v, %v", vm, err)
	}
	if names := n.Names(); len(names) > 0 {
		t.Errorf("%v are remembered", names)
	}
}

func TestTrustedIsWhatAGlobCoversWithoutLinks(t *testing.T) {
	n, _, dir := newNetnsWay(t)
	for _, sub := range []string{"real", "mine"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	add(t, dir+"/real/web1")
	add(t, dir+"/real/db1")
	add(t, dir+"/mine/evil")
	held := testkit.NewNetns(t)
	for link, to := range map[string]string{
		"folder":    dir + "/real", // as /var/run is one to /run
		"real/web2": dir + "/mine/evil",
		"real/web3": held.Path(),
		"mine/good": dir + "/real/web1",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, globs := range [][]string{{dir + "/real/web*", "/proc/*/fd/*"}, {dir + "/folder/web*"}} {
		if err := n.Configure(Config{Trusted: globs}); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]bool{
			dir + "/real/web1":   true,
			dir + "/folder/web1": true,
			dir + "/mine/good":   true, // it is real/web1
			dir + "/real/db1":    false,
			dir + "/real/web2":   false,
			dir + "/real/web3":   false,
			dir + "/mine/evil":   false,
			held.Path():          false,
		} {
			if vm := findNetns(t, n, "vm", path); vm.Trusted != want {
				t.Errorf("%v: %s is trusted: %v", globs, path, vm.Trusted)
			}
		}
	}
}

func TestTheEndOfANamespaceIsToldHoweverItEnds(t *testing.T) {
	n, _, dir := newNetnsWay(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"deleted", "unmounted", "replaced", "stays", "later"} {
		add(t, path(name))
	}
	busy := testkit.NewNetns(t) // a process stays in it
	mount(t, busy.NS(), path("busy"))
	nameless, err := netns.New() // in /proc no folder tells anything
	if err != nil {
		t.Fatal(err)
	}
	defer nameless.Close()
	procPath := nameless.Path()
	for _, name := range []string{"deleted", "unmounted", "replaced", "stays", "busy"} {
		findNetns(t, n, name, path(name))
	}
	findNetns(t, n, "twin", path("deleted"))
	seen, _ := startRun(t, n.Run)
	seen.wait(t, 0, "the beginning", begun)
	findNetns(t, n, "later", path("later"))
	findNetns(t, n, "nameless", procPath)

	unmount(t, path("busy"))
	remove(t, path("busy"))
	seen.wait(t, 0, "busy", isNetns("busy", path("busy")))
	for _, name := range []string{"deleted", "later"} {
		unmount(t, path(name))
		remove(t, path(name))
	}
	unmount(t, path("unmounted"))
	unmount(t, path("replaced"))
	add(t, path("replaced"))
	_ = nameless.Close()
	for name, at := range map[string]string{
		"deleted": path("deleted"), "twin": path("deleted"), "later": path("later"), "unmounted": path("unmounted"),
		"replaced": path("replaced"), "nameless": procPath,
	} {
		seen.wait(t, 0, name, isNetns(name, at))
	}
	if names := n.Names(); !slices.Equal(names, []string{"stays"}) {
		t.Errorf("names: %v", names)
	}
	if got := seen.count(); got != 8 { // the beginning and each end, once
		t.Errorf("%d sightings: %+v", got, seen.list)
	}
	if _, err := n.Find(t.Context(), "busy", viaNetns+path("busy")); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("busy: %v", err)
	}
}

func TestANamespaceThatEndedBeforeTheWatchBeganIsTold(t *testing.T) {
	n, _, dir := newNetnsWay(t)
	add(t, dir+"/web1")
	findNetns(t, n, "web1", dir+"/web1")
	unmount(t, dir+"/web1")
	remove(t, dir+"/web1")
	seen, _ := startRun(t, n.Run)
	seen.wait(t, 0, "web1", isNetns("web1", dir+"/web1"))
}

func TestThereIsNothingToPlugIntoANamespace(t *testing.T) {
	w, _ := newWays(t)
	n, _, dir := newNetnsWay(t)
	w.Netns = n
	add(t, dir+"/web1")
	if err := w.Configure(Config{Folders: []string{dir}}); err != nil {
		t.Fatal(err)
	}
	via := viaNetns + dir + "/web1"
	if err := w.Allowed(1000, via); err != nil {
		t.Error(err)
	}
	if err := w.Allowed(1000, "netns:/elsewhere"); !errors.Is(err, vmnetd.ErrDenied) {
		t.Error(err)
	}
	vm, err := w.Find(t.Context(), "web1", via)
	if err != nil {
		t.Fatal(err)
	}
	nic := NIC{ID: "net0"}
	if _, err := w.Plug(t.Context(), vm, nic); err != nil {
		t.Errorf("Plug: %v", err)
	}
	if _, ok, err := w.Plugged(t.Context(), vm, nic); !ok || err != nil {
		t.Errorf("Plugged: %v, %v", ok, err)
	}
	if err := errors.Join(w.Unplug(t.Context(), vm, nic), w.CutOff(t.Context(), vm, nic), w.SetLink(t.Context(), vm, nic, true)); err != nil {
		t.Error(err)
	}
	if _, err := w.Filter(t.Context(), vm, nic); !errors.Is(err, vmnetd.ErrUnsupported) {
		t.Errorf("Filter: %v", err)
	}
	if names := w.Names(); !slices.Equal(names, []string{"web1"}) {
		t.Errorf("names: %v", names)
	}
	if !slices.ContainsFunc(w.Doctor(t.Context()), func(c vmnetd.Check) bool { return strings.Contains(c.Name, dir) && c.Text == "1 there" }) {
		t.Errorf("doctor: %+v", w.Doctor(t.Context()))
	}
}

func TestANumberThatTheKernelCountedIsDoubtedWhenItsNamespaceEnds(t *testing.T) {
	n := NewNetns()
	known := map[netnsKey]netnsFound{
		{"web1", "/run/netns/web1"}: {"counted", 0},
		{"web2", "/run/netns/web2"}: {"drawn", 1 << 17},
		{"web3", "/run/netns/web3"}: {"counted, found anew since", 1},
	}
	for k, f := range known {
		n.remember(k, f)
	}
	n.remember(netnsKey{"web3", "/run/netns/web3"}, netnsFound{"the next one", 2})
	var saw []Sighting
	w := &netnsWatch{n: n, saw: func(s Sighting) { saw = append(saw, s) }}
	w.doubt(known)
	if want := []Sighting{{Name: "web1", Via: "netns:/run/netns/web1", Here: true}}; !slices.Equal(saw, want) {
		t.Errorf("%+v, want %+v", saw, want)
	}
}
