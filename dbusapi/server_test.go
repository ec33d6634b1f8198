package dbusapi

import (
	"context"
	"encoding/xml" //nolint:depguard // reads nothing but our own contract
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestAnAttachmentTravelsWhole(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	req := vmnetd.Request{VM: "vm-1", ID: "net0", Queues: 4, Mode: vmnetd.VEPA}
	a, err := c.Attach(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want := sample("vm-1", "net0")
	want.Problem, want.Changed = "none\uFFFD\x00", true // JSON carries all but bytes that are no text
	if diff := cmp.Diff(want, a); diff != "" {
		t.Error(diff)
	}
	if len(f.requests) != 1 || !reflect.DeepEqual(f.requests[0], req) || f.callers[0].UID != 0 || f.callers[0].PID == 0 {
		t.Errorf("the agent saw %+v of %+v", f.requests, f.callers)
	}
	if a, err = c.Attach(t.Context(), req); err != nil || a.Changed {
		t.Errorf("the second time: changed %v, %v", a.Changed, err)
	}
	listed, err := c.List(t.Context(), "vm-1")
	if err != nil || len(listed) != 1 || listed[0].MAC != want.MAC {
		t.Errorf("List: %+v, %v", listed, err)
	}
	if listed, err = c.List(t.Context(), "other"); err != nil || listed == nil || len(listed) != 0 {
		t.Errorf("List of a VM without NICs: %#v, %v", listed, err)
	}
	gone, err := c.Detach(t.Context(), "vm-1", agent.Selector{All: true})
	if err != nil || len(gone) != 1 || gone[0].ID != "net0" {
		t.Errorf("Detach: %+v, %v", gone, err)
	}
}

func TestEveryReadingCallAnswers(t *testing.T) {
	now := time.Now()
	f := &fake{events: []vmnetd.Event{{Time: now.Add(-time.Hour), Event: "old"}, {Time: now, Event: "new"}}}
	c, _ := pair(t, f)
	if vms, err := c.VMs(t.Context()); len(vms) != 2 || err != nil {
		t.Errorf("VMs = %v, %v", vms, err)
	}
	if one, err := c.Uplink(t.Context(), "wan.100"); err != nil || cmp.Diff(f.Uplinks()[0], one) != "" {
		t.Errorf("%v: %+v", err, one)
	}
	if _, err := c.Uplink(t.Context(), "no"); !errors.Is(err, vmnetd.ErrNotFound) {
		t.Errorf("an uplink that is not there: %v", err)
	}
	ups, err := c.Uplinks(t.Context())
	if diff := cmp.Diff(f.Uplinks(), ups); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.Host != "h" || len(st.Uplinks) != 1 {
		t.Errorf("Status: %+v, %v", st, err)
	}
	if checks, err := c.Doctor(t.Context()); err != nil || len(checks) != 1 || checks[0].Name != "n" {
		t.Errorf("Doctor: %+v, %v", checks, err)
	}
	if ev, err := c.Events(t.Context(), now.Add(-time.Minute)); err != nil || len(ev) != 1 || ev[0].Event != "new" {
		t.Errorf("Events: %+v, %v", ev, err)
	}
	ex, err := c.Explain(t.Context(), vmnetd.Request{VM: "vm1", Mode: vmnetd.Bridge}, true)
	if err != nil || len(ex) != 1 || ex[0].VM != "vm1" || ex[0].Mode != "bridge" || !ex[0].Granted {
		t.Errorf("Explain: %+v, %v", ex, err)
	}
	if err := c.Reload(t.Context()); err != nil {
		t.Errorf("Reload: %v", err)
	}
}

func TestEveryClassOfErrorComesBackAsItself(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	for _, class := range vmnetd.Classes {
		f.mu.Lock()
		f.fail = vmnetd.Errorf(class.Err, "no: %w", errors.New("cause\xff")).WithNext("do this")
		f.mu.Unlock()
		_, err := c.Attach(t.Context(), vmnetd.Request{VM: "vm1"})
		if vmnetd.ClassOf(err).Name != class.Name || err.Error() != "no: cause\uFFFD" || vmnetd.NextOf(err) != "do this" {
			t.Errorf("%s came back as %s: %v, next %q", class.Name, vmnetd.ClassOf(err).Name, err, vmnetd.NextOf(err))
		}
	}
	f.mu.Lock()
	f.fail = errors.New("of no class")
	f.mu.Unlock()
	if err := c.Reload(t.Context()); vmnetd.ClassOf(err).Name != "Failed" || err.Error() != "of no class" {
		t.Errorf("%v", err)
	}
}

func TestWithoutDaemonOrBusTheErrorSaysHowToStartIt(t *testing.T) {
	address := testkit.StartBus(t)
	_, err := dial(t.Context(), address)
	if !errors.Is(err, vmnetd.ErrUnreachable) || !strings.Contains(vmnetd.NextOf(err), "systemctl start vmnetd") {
		t.Errorf("no daemon: %v, next %q", err, vmnetd.NextOf(err))
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	_, err = Dial(t.Context())
	if !errors.Is(err, vmnetd.ErrUnreachable) || vmnetd.NextOf(err) == "" {
		t.Errorf("no bus: %v, next %q", err, vmnetd.NextOf(err))
	}
}

func TestASecondDaemonIsRefused(t *testing.T) {
	address := testkit.StartBus(t)
	serve(t, address, &fake{})
	err := New(&fake{}, Options{Address: address, RunDir: t.TempDir()}).Run(t.Context())
	if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), "process") {
		t.Errorf("%v", err)
	}
}

// watchRaw collects every signal of the daemon as "path member body".
func watchRaw(t *testing.T, c *Client) <-chan *dbus.Signal {
	t.Helper()
	signals := make(chan *dbus.Signal, 100)
	c.conn.Signal(signals)
	if err := c.conn.AddMatchSignal(dbus.WithMatchSender(busName)); err != nil {
		t.Fatal(err)
	}
	return signals
}

func next(t *testing.T, signals <-chan *dbus.Signal, path dbus.ObjectPath, name string) []any {
	t.Helper()
	for {
		select {
		case s := <-signals:
			if strings.HasPrefix(s.Name, "org.freedesktop.DBus.Name") {
				continue
			}
			if s.Path != path || s.Name != name {
				t.Fatalf("%s %s came, not %s %s", s.Path, s.Name, path, name)
			}
			return s.Body
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s in 10 s", name)
		}
	}
}

func TestChangesBecomeSignalsInOrderAndCarryOnlyWhatIsNew(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	signals := watchRaw(t, c)
	if _, err := c.Attach(t.Context(), vmnetd.Request{VM: "1", ID: "net0"}); err != nil {
		t.Fatal(err)
	}
	path := dbus.ObjectPath("/org/vmnetd1/attachment/_31/net0")
	added := next(t, signals, rootPath, "org.freedesktop.DBus.ObjectManager.InterfacesAdded")
	if all, ok := added[1].(map[string]properties); !ok || added[0] != path || all[attachIface]["ifindex"].Value() != int32(77) {
		t.Errorf("added %v", added)
	}
	if e := next(t, signals, rootPath, "org.vmnetd1.Manager.Event"); e[1] != "attached" || e[2] != "1" || e[3] != "net0" {
		t.Errorf("event %v", e)
	}
	a := sample("1", "net0")
	f.tell(agent.Change{Attachment: &a}) // nothing new: no signal
	a.Phase, a.Reasons = vmnetd.Broken, nil
	f.tell(agent.Change{Attachment: &a})
	changed := next(t, signals, path, "org.freedesktop.DBus.Properties.PropertiesChanged")
	want := properties{"phase": dbus.MakeVariant("broken"), "reasons": dbus.MakeVariant([]string{})}
	if diff := cmp.Diff(want, changed[1], cmp.AllowUnexported(dbus.Variant{}, dbus.Signature{})); changed[0] != attachIface || diff != "" {
		t.Errorf("changed %v", changed)
	}
	u := f.Uplinks()[0]
	u.State = "absent"
	f.tell(agent.Change{Uplink: &u})
	got := next(t, signals, "/org/vmnetd1/uplink/wan_2e100", "org.freedesktop.DBus.Properties.PropertiesChanged")
	if props, ok := got[1].(properties); !ok || len(props) != 1 || props["state"].Value() != "absent" {
		t.Errorf("uplink %v", got)
	}
	f.tell(agent.Change{Attachment: &a, Gone: true})
	if got := next(t, signals, rootPath, "org.freedesktop.DBus.ObjectManager.InterfacesRemoved"); got[0] != path {
		t.Errorf("removed %v", got)
	}
}

func TestWatchTellsThePastOnceThenWhatComes(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	at := time.Now()
	for i := range 3 {
		f.events = append(f.events, vmnetd.Event{Time: at.Add(time.Duration(i) * time.Millisecond), Event: "past", Text: fmt.Sprint(i)})
	}
	f.events = append(f.events, vmnetd.Event{Time: at.Add(-time.Hour), Event: "before"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- c.WatchSince(ctx, at, func(e vmnetd.Event) { got <- e.Event + e.Text })
	}()
	for i := range 3 {
		if e := <-got; e != fmt.Sprint("past", i) {
			t.Fatalf("%s", e)
		}
	}
	f.tell(agent.Change{Event: &f.events[2]}) // told already
	f.tell(agent.Change{Event: &vmnetd.Event{Time: time.Now(), Event: "now"}})
	if e := <-got; e != "now" {
		t.Errorf("after the past came %s", e)
	}
	cancel()
	if err := within(ended); err != nil {
		t.Errorf("Watch at the end of ctx: %v", err)
	}
}

func TestWatchEndsWhenTheDaemonGoes(t *testing.T) {
	address := testkit.StartBus(t)
	ctx, stop := context.WithCancel(t.Context())
	s := New(&fake{}, Options{Address: address, RunDir: t.TempDir()})
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	<-s.Ready()
	c := client(t, address)
	sub, err := c.subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := within(served); err != nil {
		t.Fatal(err)
	}
	if err := sub.follow(t.Context(), func(vmnetd.Event) {}); !errors.Is(err, vmnetd.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	if _, err := c.List(t.Context(), ""); !errors.Is(err, vmnetd.ErrUnreachable) {
		t.Errorf("a call afterwards: %v", err)
	}
}

func TestManagedObjectsAndIntrospectionShowEverything(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	for _, id := range []string{"net0", "net1"} {
		if _, err := c.Attach(t.Context(), vmnetd.Request{VM: "vm1", ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	var all map[dbus.ObjectPath]map[string]properties
	if err := c.call(t.Context(), rootPath, objectsIface+".GetManagedObjects").Store(&all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 || all["/org/vmnetd1/attachment/vm1/net1"][attachIface]["queues"].Value() != int32(4) {
		t.Errorf("%v", all)
	}
	// From the root down, every object is found by introspection alone.
	found := map[dbus.ObjectPath]bool{}
	var walk func(path dbus.ObjectPath)
	walk = func(path dbus.ObjectPath) {
		node, err := introspect.Call(c.conn.Object(busName, path))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, i := range node.Interfaces {
			found[path+"|"+dbus.ObjectPath(i.Name)] = true
		}
		for _, child := range node.Children {
			walk(dbus.ObjectPath(strings.TrimSuffix(string(path), "/") + "/" + child.Name))
		}
	}
	walk("/")
	for _, want := range []dbus.ObjectPath{
		"/org/vmnetd1|org.vmnetd1.Manager", "/org/vmnetd1|org.freedesktop.DBus.ObjectManager",
		"/org/vmnetd1/attachment/vm1/net0|org.vmnetd1.Attachment", "/org/vmnetd1/uplink/wan_2e100|org.vmnetd1.Uplink",
	} {
		if !found[want] {
			t.Errorf("%s not found among %v", want, found)
		}
	}
	for _, method := range []string{"/org/vmnetd1/attachment/vm2/net0", "/org/vmnetd1/attachment/_", "/org/vmnetd1/x", "/org/vmnetd1/uplink/no"} {
		if err := c.call(t.Context(), dbus.ObjectPath(method), introspectIface+".Introspect").Err; err == nil {
			t.Errorf("%s is there", method)
		}
	}
}

func TestPropertiesAreReadOnlyAndUnknownOnesSaidSo(t *testing.T) {
	c, _ := pair(t, &fake{})
	o := c.conn.Object(busName, "/org/vmnetd1/uplink/wan_2e100")
	if v, err := o.GetProperty("org.vmnetd1.Uplink.mtu"); err != nil || v.Value() != int32(9000) {
		t.Errorf("%v, %v", v, err)
	}
	for call, want := range map[*dbus.Call]string{
		o.Call(propsIface+".Set", 0, uplinkIface, "mtu", dbus.MakeVariant(1)): "PropertyReadOnly",
		o.Call(propsIface+".Get", 0, uplinkIface, "nope"):                     "UnknownProperty",
		o.Call(propsIface+".GetAll", 0, "org.example"):                        "UnknownInterface",
		o.Call(propsIface+".GetAll", 0):                                       "InvalidArgs",
		o.Call("org.vmnetd1.Uplink.Raze", 0):                                  "UnknownMethod",
	} {
		var e dbus.Error
		if !errors.As(call.Err, &e) || !strings.HasSuffix(e.Name, want) {
			t.Errorf("%s: %v, want %s", call.Method, call.Err, want)
		}
	}
}

func TestASlowCallHoldsUpNobodyAndEndsInTime(t *testing.T) {
	entered := make(chan struct{})
	f := &fake{hold: func(ctx context.Context) { close(entered); <-ctx.Done() }}
	address := testkit.StartBus(t)
	serve(t, address, f, func(o *Options) { o.CallLimit = 300 * time.Millisecond })
	c := client(t, address)
	slow := make(chan error, 1)
	go func() {
		_, err := c.Attach(context.Background(), vmnetd.Request{VM: "vm1"})
		slow <- err
	}()
	<-entered
	if _, err := c.List(t.Context(), ""); err != nil {
		t.Errorf("List meanwhile: %v", err)
	}
	if err := within(slow); err != nil {
		t.Errorf("the slow call: %v", err)
	}
}

func TestACallerThatVanishesCancelsNothing(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var cancelled atomic.Bool
	f := &fake{hold: func(ctx context.Context) { close(entered); <-leave; cancelled.Store(ctx.Err() != nil) }}
	c, address := pair(t, f)
	go func() { _, _ = c.Attach(context.Background(), vmnetd.Request{VM: "vm1"}) }()
	<-entered
	c.Close()
	other := client(t, address)
	if _, err := other.List(t.Context(), ""); err != nil { // the bus has told everybody by now
		t.Fatal(err)
	}
	close(leave)
	eventually(t, "the attachment is there", func() bool { return len(f.List("vm1")) == 1 })
	if cancelled.Load() {
		t.Error("the call was cancelled")
	}
}

func TestAPanicInACallIsAnErrorOfThatCall(t *testing.T) {
	f := &fake{hold: func(context.Context) { panic("oh") }}
	c, _ := pair(t, f)
	if _, err := c.Attach(t.Context(), vmnetd.Request{VM: "vm1"}); vmnetd.ClassOf(err).Name != "Failed" || !strings.Contains(err.Error(), "oh") {
		t.Errorf("%v", err)
	}
	if _, err := c.List(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

func TestTooManyCallsOfOneConnectionAreBusy(t *testing.T) {
	leave := make(chan struct{})
	f := &fake{hold: func(context.Context) { <-leave }}
	c, address := pair(t, f)
	calls := make(chan error, mostCalls+1)
	for range mostCalls + 1 {
		go func() {
			_, err := c.Attach(context.Background(), vmnetd.Request{VM: "vm1", ID: "net0"})
			calls <- err
		}()
	}
	if err := <-calls; !errors.Is(err, vmnetd.ErrBusy) { // the others wait
		t.Errorf("%v", err)
	}
	if _, err := client(t, address).List(t.Context(), ""); err != nil {
		t.Errorf("another connection: %v", err)
	}
	close(leave)
	for range mostCalls {
		if err := <-calls; err != nil {
			t.Error(err)
		}
	}
}

func TestTheServerComesBackWithTheBus(t *testing.T) {
	b := testkit.NewBus(t)
	f := &fake{}
	s := serve(t, b.Address, f)
	before := client(t, b.Address)
	for round := range 2 {
		b.Stop()
		if _, err := before.List(t.Context(), ""); !errors.Is(err, vmnetd.ErrUnreachable) {
			t.Errorf("while the bus is away: %v", err)
		}
		a := sample("vm1", "net0")
		f.tell(agent.Change{Attachment: &a}) // nobody hears it, nobody hangs
		b.Start()
		eventually(t, "the name is owned again", func() bool {
			conn := s.bus.Conn()
			return conn != nil && conn.Connected()
		})
		before = client(t, b.Address)
		if a, err := before.Attach(t.Context(), vmnetd.Request{VM: "vm1", ID: "net0"}); err != nil || a.Changed != (round == 0) {
			t.Errorf("round %d: changed %v, %v", round, a.Changed, err)
		}
	}
}

func TestTheServerStartsBeforeTheBus(t *testing.T) {
	b := testkit.NewBus(t)
	b.Stop()
	s := New(&fake{}, Options{Address: b.Address, RunDir: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
		t.Fatal("ready without a bus")
	case err := <-ended:
		t.Fatalf("ended without a bus: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	b.Start()
	<-s.Ready()
	if _, err := client(t, b.Address).List(t.Context(), ""); err != nil {
		t.Error(err)
	}
	cancel()
	if err := within(ended); err != nil {
		t.Error(err)
	}
}

func TestACallUnderWayIsAnsweredWhenTheDaemonStops(t *testing.T) {
	entered := make(chan struct{})
	f := &fake{hold: func(ctx context.Context) { close(entered); <-ctx.Done() }, fail: vmnetd.Errorf(vmnetd.ErrBusy, "stopped in the middle")}
	address := testkit.StartBus(t)
	ctx, stop := context.WithCancel(t.Context())
	s := New(f, Options{Address: address, RunDir: t.TempDir()})
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	<-s.Ready()
	c := client(t, address)
	answer := make(chan error, 1)
	go func() {
		_, err := c.Attach(context.Background(), vmnetd.Request{VM: "vm1"})
		answer <- err
	}()
	<-entered
	stop()
	if err := within(answer); !errors.Is(err, vmnetd.ErrBusy) {
		t.Errorf("%v", err)
	}
	if err := within(served); err != nil {
		t.Error(err)
	}
}

func TestAThousandAttachmentsMakeNoCallSlow(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	median := func(attachments int) time.Duration {
		f.mu.Lock()
		for i := len(f.attachments); i < attachments; i++ {
			f.attachments = append(f.attachments, sample(fmt.Sprint("vm", i), "net0"))
		}
		f.mu.Unlock()
		var took []time.Duration
		for range 100 {
			start := time.Now()
			if _, err := c.Attach(t.Context(), vmnetd.Request{VM: "vm0", ID: "net0"}); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	if one, all := median(1), median(1000); all > 10*one || all > 20*time.Millisecond {
		t.Errorf("an attach takes %v, beside one attachment %v", all, one)
	}
	listed, err := c.List(t.Context(), "")
	if err != nil || len(listed) != 1000 {
		t.Errorf("%d attachments, %v", len(listed), err)
	}
}

func TestTheContractIsWellFormed(t *testing.T) {
	var n introspect.Node
	if err := xml.Unmarshal(contract, &n); err != nil || len(n.Interfaces) != 5 {
		t.Errorf("%d interfaces, %v", len(n.Interfaces), err)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	f := &fake{}
	c, _ := pair(b, f)
	b.Run("List", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.List(b.Context(), "vm1"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Attach", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Attach(b.Context(), vmnetd.Request{VM: "vm1", ID: "net0"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDialAndAttach(b *testing.B) {
	f := &fake{}
	_, address := pair(b, f)
	for b.Loop() {
		c, err := dial(b.Context(), address)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Attach(b.Context(), vmnetd.Request{VM: "vm1", ID: "net0"}); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
