package hypervisor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// newEars is a QMP that knows of events sockets, {vm}.events in the directory.
func newEars(t *testing.T, limits Limits) (q *QMP, dir string) {
	t.Helper()
	q, dir = newQMP(t, limits)
	if err := q.Configure(Config{Sockets: []string{dir + "/{vm}.sock"}, Events: []string{dir + "/{vm}.events"}}); err != nil {
		t.Fatal(err)
	}
	return q, dir
}

// withEvents starts a QEMU that has an events socket.
func withEvents(t *testing.T, dir, name string, o testkit.QEMUOptions) *testkit.QEMU {
	t.Helper()
	o.Name, o.QMPDir = name, dir
	o.Args = append(slices.Clone(o.Args), "-qmp", "unix:"+filepath.Join(dir, name+".events")+",server=on,wait=off")
	return testkit.StartQEMU(t, o)
}

// until waits for a Sighting after which ok holds.
func until(t *testing.T, seen <-chan Sighting, what string, ok func(Sighting) bool) {
	t.Helper()
	limit := time.After(longEnough)
	for {
		select {
		case s := <-seen:
			if ok(s) {
				return
			}
		case <-limit:
			t.Fatalf("no sighting: %s", what)
		}
	}
}

func TestEventsTellWhetherTheCPUsRun(t *testing.T) {
	q, dir := newEars(t, Limits{})
	seen := watch(t, q)
	guest := withEvents(t, dir, vmName("ear"), testkit.QEMUOptions{})
	halted := func(want bool) func(Sighting) bool {
		return func(s Sighting) bool {
			vm, err := q.Find(t.Context(), guest.Name, "")
			return s.Name == guest.Name && s.Here && s.Via == "qmp:"+guest.Socket && err == nil && vm.Halted == want && vm.Running != want
		}
	}
	until(t, seen, "paused from the start", halted(true))
	guest.QMP("cont", nil)
	until(t, seen, "it runs", halted(false))
	guest.QMP("stop", nil)
	until(t, seen, "it is paused", halted(true))
	guest.Kill()
	until(t, seen, "it has gone", func(s Sighting) bool {
		return s == Sighting{Name: guest.Name, Via: "qmp:" + guest.Socket, Socket: guest.Socket}
	})

	again := withEvents(t, dir, guest.Name, testkit.QEMUOptions{Running: true}) // the sockets of the one that was killed are in the way, and are replaced
	until(t, seen, "the next run is heard", func(Sighting) bool {
		vm, err := q.Find(t.Context(), again.Name, "")
		q.mu.Lock()
		defer q.mu.Unlock()
		return err == nil && !vm.Halted && q.ears[again.Name] != nil
	})
}

func TestVMWithoutEventsSocketIsNotHaltedAndHasNoFilter(t *testing.T) {
	q, dir := newEars(t, Limits{})
	guest := testkit.StartQEMU(t, testkit.QEMUOptions{QMPDir: dir, RootPorts: 1})
	watch(t, q)
	vm := find(t, q, guest.Name)
	if vm.Halted || vm.Running {
		t.Errorf("vm = %+v", vm)
	}
	_, err := q.Filter(t.Context(), vm, NIC{ID: "net0"})
	if !errors.Is(err, vmnetd.ErrUnsupported) || !strings.Contains(vmnetd.NextOf(err), "-qmp unix:"+dir+"/"+guest.Name+".events,") {
		t.Errorf("Filter = %v; next: %s", err, vmnetd.NextOf(err))
	}
}

func TestFilterIsAskedByTheEventsSocket(t *testing.T) {
	q, dir := newEars(t, Limits{})
	seen := watch(t, q)
	guest := withEvents(t, dir, vmName("filter"), testkit.QEMUOptions{RootPorts: 1})
	until(t, seen, "heard", func(Sighting) bool { return find(t, q, guest.Name).Halted })
	vm := find(t, q, guest.Name)
	card := nic(t, "net0", 1)
	if _, err := q.Plug(t.Context(), vm, card); err != nil {
		t.Fatal(err)
	}
	f, err := q.Filter(t.Context(), vm, card)
	if err != nil || f.MAC.String() != card.MAC.String() {
		t.Errorf("Filter = %+v, %v", f, err)
	}
	if _, err := q.Filter(t.Context(), vm, NIC{ID: "net1"}); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("Filter of no NIC = %v", err)
	}
	guest.Kill()
	until(t, seen, "gone", func(s Sighting) bool { return !s.Here })
	if _, err := q.Filter(t.Context(), vm, card); !errors.Is(err, vmnetd.ErrUnsupported) && !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("Filter of a VM that has gone = %v", err)
	}
}

func TestFilterIsReadAsTheGuestMeansIt(t *testing.T) {
	mac := "52:54:00:00:00:01"
	for name, c := range map[string]struct {
		answer rxFilter
		groups []string
		all    bool
	}{
		"none":        {rxFilter{MainMAC: mac, Multicast: "none", Table: []string{"01:00:5e:00:00:01"}}, nil, false},
		"normal":      {rxFilter{MainMAC: mac, Multicast: "normal", Table: []string{"01:00:5e:00:00:01", "33:33:00:00:00:01"}}, []string{"01:00:5e:00:00:01", "33:33:00:00:00:01"}, false},
		"no group":    {rxFilter{MainMAC: mac, Multicast: "normal", Table: []string{"02:00:5e:00:00:01", "x", "01:00:5e:00:00:01:00:00"}}, nil, false},
		"all":         {rxFilter{MainMAC: mac, Multicast: "all"}, nil, true},
		"overflow":    {rxFilter{MainMAC: mac, Multicast: "normal", Overflow: true}, nil, true},
		"promiscuous": {rxFilter{MainMAC: mac, Multicast: "none", Promiscuous: true}, nil, true},
	} {
		got, err := c.answer.read("net0")
		var groups []string
		for _, g := range got.Multicast {
			groups = append(groups, g.String())
		}
		if err != nil || got.MAC.String() != mac || got.AllMulti != c.all || !slices.Equal(groups, c.groups) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "x", "01:00:5e:00:00:01:00:00"} {
		if _, err := (rxFilter{MainMAC: bad}).read("net0"); err == nil {
			t.Errorf("MAC %q is taken", bad)
		}
	}
}

func TestPatternOfEventsMustNotBeOneOfSockets(t *testing.T) {
	q := NewQMP(Options{})
	good := Config{Sockets: []string{"/a/{vm}.sock"}, Events: []string{"/a/{vm}.events"}}
	if err := q.Configure(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Config{
		{Sockets: []string{"/b/{vm}.sock"}, Events: []string{"/b/{vm}.sock"}},
		{Sockets: []string{"/b/{vm}.sock"}, Events: []string{"/b/vm.events"}},
		{Sockets: []string{"b"}, Events: []string{"/b/{vm}.events"}},
	} {
		if err := q.Configure(bad); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("Configure(%v) = %v", bad, err)
		}
	}
	events, _ := q.listened()
	if sockets := q.config(); len(sockets) != 1 || sockets[0].text != "/a/{vm}.sock" || len(events) != 1 || events[0].text != "/a/{vm}.events" {
		t.Errorf("after bad ones: %v, %v", sockets, events)
	}
}

func TestEventsSocketIsNoVMOfItsOwn(t *testing.T) {
	q, dir := newQMP(t, Limits{})
	for _, name := range []string{"web1.sock", "web1.events.sock", "db.sock"} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	for _, c := range []struct{ sockets, events string }{{"{vm}.sock", "{vm}.events.sock"}, {"{vm}.events.sock", "{vm}.sock"}} {
		if err := q.Configure(Config{Sockets: []string{dir + "/" + c.sockets}, Events: []string{dir + "/" + c.events}}); err != nil {
			t.Fatal(err)
		}
		vms := q.Sockets()
		patterns, _ := q.listened()
		events := q.eventSockets(patterns)
		if c.sockets == "{vm}.sock" && (len(vms) != 2 || vms["web1"] == "" || len(events) != 1 || events[dir+"/web1.events.sock"] != "web1") ||
			c.sockets != "{vm}.sock" && (len(vms) != 1 || vms["web1"] != dir+"/web1.events.sock" || len(events) != 2) {
			t.Errorf("%+v: VMs %v, events %v", c, vms, events)
		}
	}
}

// countingLog counts what is logged of events sockets.
type countingLog struct {
	mu   sync.Mutex
	text bytes.Buffer
	came chan struct{}
}

func (l *countingLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(p, []byte("an events socket is not used")) {
		l.came <- struct{}{}
	}
	return l.text.Write(p)
}

func TestEventsSocketThatIsHeldOrIsNoneIsSaidOnceAndTriedAgainWhenItIsAnother(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"silent": func(net.Conn) {},
		"junk":   func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")) },
		"closes": func(c net.Conn) { _ = c.Close() },
		"pipelines": func(c net.Conn) { // a greeting and an answer that nobody asked for
			_, _ = c.Write([]byte(`{"QMP": {"version": {}}}` + "\n" + `{"return": {}}` + "\n" + `{"error": {"class": "GenericError", "desc": "x"}}` + "\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			limits := Limits{Greeting: longEnough}
			if name == "silent" {
				limits.Greeting = 5 * time.Second // that runs out, and QEMU at the end takes less
			}
			q, dir := newEars(t, limits)
			log := &countingLog{came: make(chan struct{}, 10)}
			q.log = slog.New(slog.NewTextHandler(log, nil))
			vm := vmName("odd")
			path := filepath.Join(dir, vm+".events")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			var conns []net.Conn
			served.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					conns = append(conns, c)
					serve(c)
				}
			})
			seen := watch(t, q)
			select {
			case <-log.came:
			case <-time.After(longEnough):
				t.Fatal("nothing is said of it")
			}
			if err := os.WriteFile(filepath.Join(dir, "other.events"), nil, 0o600); err != nil { // something happens beside it
				t.Fatal(err)
			}
			guestDir := dir
			_ = l.Close() // removes its node
			served.Wait()
			for _, c := range conns {
				_ = c.Close()
			}
			guest := withEvents(t, guestDir, vm, testkit.QEMUOptions{})
			until(t, seen, "heard at last", func(Sighting) bool { return find(t, q, guest.Name).Halted })
			if len(log.came) != 0 || len(conns) != 1 {
				t.Errorf("it was said again, or connected to %d times:\n%s", len(conns), log.text.String())
			}
		})
	}
}

func TestEventsSocketThatSomebodyElseHoldsIsNamed(t *testing.T) {
	q, dir := newEars(t, hastily)
	log := &countingLog{came: make(chan struct{}, 10)}
	q.log = slog.New(slog.NewTextHandler(log, nil))
	guest := withEvents(t, dir, vmName("held"), testkit.QEMUOptions{})
	holder := NewConn(filepath.Join(dir, guest.Name+".events"), Limits{})
	if err := holder.Connect(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Disconnect() }()
	watch(t, q)
	select {
	case <-log.came:
	case <-time.After(longEnough):
		t.Fatal("nothing is said of it")
	}
	if got := q.earChecks(); len(got) != 1 || got[0].Level != vmnetd.LevelWarn || !strings.Contains(got[0].Text, guest.Name+".events") {
		t.Errorf("doctor says %+v", got)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if !strings.Contains(log.text.String(), "must be vmnetd's alone") {
		t.Error(log.text.String())
	}
}

func TestEarsEndWithRunAndWithTheirPattern(t *testing.T) {
	q, dir := newEars(t, Limits{})
	seen := watch(t, q)
	guest := withEvents(t, dir, vmName("deaf"), testkit.QEMUOptions{})
	until(t, seen, "heard", func(Sighting) bool { return find(t, q, guest.Name).Halted })
	if got := q.earChecks(); len(got) != 1 || got[0].Level != vmnetd.LevelOK || got[0].Text != "1 listened to" {
		t.Errorf("doctor says %+v", got)
	}
	if err := q.Configure(Config{Sockets: []string{dir + "/{vm}.sock"}}); err != nil {
		t.Fatal(err)
	}
	other := NewConn(filepath.Join(dir, guest.Name+".events"), Limits{Greeting: longEnough})
	if err := other.Connect(); err != nil {
		t.Fatalf("nobody lets go of a socket that is none of ours any more: %v", err)
	}
	_ = other.Disconnect()
	if got := q.earChecks(); len(got) != 0 {
		t.Errorf("doctor still says %+v", got)
	}
	if find(t, q, guest.Name).Halted {
		t.Error("it is told as if it were listened to")
	}
}

func TestGuestThatChangesWhatItReceivesIsFollowed(t *testing.T) {
	testkit.Require(t, "netns")
	q, dir := newEars(t, Limits{})
	seen := watch(t, q)
	name := vmName("rx")
	guest := testkit.BootGuest(t, testkit.GuestOptions{
		Name: name, QMPSocket: filepath.Join(dir, name+".sock"),
		Args: []string{"-qmp", "unix:" + filepath.Join(dir, name+".events") + ",server=on,wait=off"},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	vm := find(t, q, name)
	card := nic(t, "net0", 1)
	if _, err := q.Plug(ctx, vm, card); err != nil {
		t.Fatal(err)
	}
	ifname, err := guest.WaitIface(ctx, card.MAC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Filter(ctx, vm, card); err != nil { // from here on changes are told
		t.Fatal(err)
	}
	run := func(script string) {
		t.Helper()
		if out, err := guest.Run(ctx, script); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	filter := func(what string, ok func(RxFilter) bool) {
		t.Helper()
		until(t, seen, what, func(s Sighting) bool {
			if s.Name != name || !s.Filter {
				return false
			}
			f, err := q.Filter(ctx, vm, card)
			if err != nil {
				t.Fatal(err)
			}
			return ok(f)
		})
	}
	run("ip link set dev " + ifname + " address 52:54:00:aa:bb:cc")
	filter("the new MAC", func(f RxFilter) bool { return f.MAC.String() == "52:54:00:aa:bb:cc" })
	joined := func(f RxFilter) bool {
		return slices.ContainsFunc(f.Multicast, func(m net.HardwareAddr) bool { return m.String() == "33:33:00:00:00:01" })
	}
	run("ip link set dev " + ifname + " up")
	filter("groups of a NIC that is up", func(f RxFilter) bool { return joined(f) && !f.AllMulti })
	run("echo 0x1203 >/sys/class/net/" + ifname + "/flags") // IFF_ALLMULTI
	filter("all groups", func(f RxFilter) bool { return f.AllMulti })
	run("echo 0x1003 >/sys/class/net/" + ifname + "/flags")
	filter("some again", func(f RxFilter) bool { return joined(f) && !f.AllMulti })
}
