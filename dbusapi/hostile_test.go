package dbusapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// otherUser is what tests run as nobody, by name.
var otherUser = map[string]func(ctx context.Context) (string, error){
	"attach":  func(ctx context.Context) (string, error) { return withClient(ctx, attachOnce) },
	"detach":  func(ctx context.Context) (string, error) { return withClient(ctx, detachOnce) },
	"reload":  func(ctx context.Context) (string, error) { return withClient(ctx, reloadOnce) },
	"opentap": func(ctx context.Context) (string, error) { return withClient(ctx, openTapOnce) },
	"hook":    func(ctx context.Context) (string, error) { return withClient(ctx, hookOnce) },
	"import":  func(ctx context.Context) (string, error) { return withClient(ctx, importOnce) },
	"link":    func(ctx context.Context) (string, error) { return withClient(ctx, linkOnce) },
	"read":    func(ctx context.Context) (string, error) { return withClient(ctx, readAll) },
	"hostile": sendHostile,
	"steal":   stealToken,
	"crowd":   crowd,
	"uplinks": refusedOnUplinks,
	"plan":    func(ctx context.Context) (string, error) { return withClient(ctx, planAndAsk) },
}

// refusedOnUplinks names the verbs that change uplinks and were not denied.
func refusedOnUplinks(ctx context.Context) (string, error) {
	c, err := Dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_, apply := c.Apply(ctx, vmnetd.ApplyOptions{})
	_, convert := c.Convert(ctx, "u", "bond", true)
	tries := map[string]error{
		"apply": apply, "convert --live": convert, "confirm": c.Confirm(ctx, ""), "rollback": c.Rollback(ctx, ""), "move": c.Move(ctx, "u", ""),
		"drain": c.SetDrain(ctx, "u", "p", true), "hold": c.SetHold(ctx, "u", time.Time{}),
	}
	for _, op := range []string{"set", "set-port-config", "port-add", "port-remove", "", "anything"} {
		_, tries["team "+op] = c.Team(ctx, "u", vmnetd.TeamRequest{Op: op})
	}
	for name, args := range map[string][]any{"Apply": {properties{}}, "Confirm": {""}, "Rollback": {""}, "Move": {""}, "SetDrain": {"p", true}, "SetHold": {uint64(0)}} {
		tries["Uplink."+name] = c.call(ctx, "/org/vmnetd1/uplink/team0", uplinkIface+"."+name, args...).Err
	}
	for name, args := range map[string][]any{"PortAdd": {"p"}, "PortRemove": {"p"}, "SetPortConfig": {"p", ""}, "Set": {"", ""}} {
		tries["Team."+name] = c.call(ctx, "/org/vmnetd1/uplink/team0", teamIface+"."+name, args...).Err
	}
	var done []string
	for name, err := range tries {
		if !errors.Is(err, vmnetd.ErrDenied) {
			done = append(done, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return strings.Join(done, "\n"), nil
}

func planAndAsk(ctx context.Context, c *Client) error {
	if _, err := c.Plan(ctx, nil); err != nil {
		return err
	}
	if _, err := c.Convert(ctx, "u", "bond", false); err != nil {
		return err
	}
	if _, err := c.Team(ctx, "u", vmnetd.TeamRequest{Op: "state"}); err != nil {
		return err
	}
	const team0 = "/org/vmnetd1/uplink/team0"
	return errors.Join(c.call(ctx, team0, uplinkIface+".Plan").Err, c.call(ctx, team0, teamIface+".Get", "debug_level").Err, c.call(ctx, team0, teamIface+".PortConfig", "p").Err)
}

func withClient(ctx context.Context, do func(context.Context, *Client) error) (string, error) {
	c, err := Dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return "ok", do(ctx, c)
}

func attachOnce(ctx context.Context, c *Client) error {
	_, err := c.Attach(ctx, vmnetd.Request{VM: "vm1", ID: "net0"})
	return err
}

func detachOnce(ctx context.Context, c *Client) error {
	_, err := c.Detach(ctx, "vm1", agent.Selector{All: true})
	return err
}

func reloadOnce(ctx context.Context, c *Client) error { return c.Reload(ctx) }

func openTapOnce(ctx context.Context, c *Client) error {
	_, set, err := c.OpenTap(ctx, vmnetd.Request{VM: "vm1"}, 0)
	if err == nil {
		set.Close()
	}
	return err
}

func hookOnce(ctx context.Context, c *Client) error {
	return c.DomainHook(ctx, "vm1", "release", "end", "<domain/>")
}

func importOnce(ctx context.Context, c *Client) error {
	_, err := c.Import(ctx, "vm1", vmnetd.ImportOptions{})
	return err
}

func linkOnce(ctx context.Context, c *Client) error {
	_, err := c.HostLink(ctx, vmnetd.HostLinkRequest{Network: "lan"})
	return err
}

func readAll(ctx context.Context, c *Client) error {
	if _, err := c.Counters(ctx, "vm1", "net0"); err != nil {
		return err
	}
	if _, err := c.HostLinks(ctx); err != nil {
		return err
	}
	if _, err := c.List(ctx, ""); err != nil {
		return err
	}
	if _, err := c.Status(ctx); err != nil {
		return err
	}
	if _, err := c.Explain(ctx, vmnetd.Request{VM: "vm1"}, false); err != nil {
		return err
	}
	if _, err := c.DomainXML(ctx, vmnetd.Request{VM: "vm1"}); err != nil {
		return err
	}
	var props properties
	if err := c.call(ctx, "/org/vmnetd1/uplink/wan_2e100", propsIface+".GetAll", uplinkIface).Store(&props); err != nil {
		return err
	}
	if err := c.call(ctx, rootPath, introspectIface+".Introspect").Err; err != nil {
		return err
	}
	sub, err := c.subscribe(ctx)
	if err != nil {
		return err
	}
	sub.end()
	return planAndAsk(ctx, c)
}

func TestNobodyMayReadButNotChange(t *testing.T) {
	address := testkit.StartBus(t)
	serve(t, address, &fake{more: []vmnetd.UplinkState{*aTeam()}})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	for _, name := range []string{"attach", "detach", "reload", "opentap", "hook", "import", "link"} {
		if got := asNobody(t, name); !strings.HasPrefix(got, "Denied: ") || !strings.Contains(got, "usermod -aG vmnetd") && !strings.Contains(got, "groupadd --system vmnetd") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := asNobody(t, "read"); got != "ok" {
		t.Errorf("read: %s", got)
	}
}

func TestNobodyMayPlanButNotTouchAnUplink(t *testing.T) {
	f := &fake{more: []vmnetd.UplinkState{*aTeam()}}
	address := testkit.StartBus(t)
	serve(t, address, f)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	if got := asNobody(t, "uplinks"); got != "" {
		t.Errorf("not denied:\n%s", got)
	}
	f.mu.Lock()
	if f.verbs != nil {
		t.Errorf("the agent was asked: %v", f.verbs)
	}
	f.mu.Unlock()
	if got := asNobody(t, "plan"); got != "ok" {
		t.Errorf("plan: %s", got)
	}
}

func TestAMemberOfTheGroupMayAttach(t *testing.T) {
	f := &fake{}
	address := testkit.StartBus(t)
	serve(t, address, f, func(o *Options) { o.Authorizer = GroupAuthorizer{Group: "nogroup"} }) // nobody's own group
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	if got := asNobody(t, "attach"); got != "ok" {
		t.Fatalf("attach: %s", got)
	}
	if f.callers[0].UID != nobody || f.callers[0].PID == os.Getpid() {
		t.Errorf("the agent saw %+v", f.callers[0])
	}
}

func TestWhoCannotBeLookedUpIsDenied(t *testing.T) {
	for _, who := range []uint32{4_000_000_000, nobody} {
		for _, group := range []string{"", "root", "no-such-group"} {
			err := GroupAuthorizer{Group: group}.Authorize(t.Context(), Subject{Caller: agent.Caller{UID: who}}, ActionAttach)
			if vmnetd.ClassOf(err).Name != "Denied" || vmnetd.NextOf(err) == "" {
				t.Errorf("uid %d, group %q: %v", who, group, err)
			}
			if group == "no-such-group" && (!strings.Contains(err.Error(), "not root, and this host has no group no-such-group") ||
				vmnetd.NextOf(err) != "run it as root, or make the group: groupadd --system no-such-group") {
				t.Errorf("missing group: %v, next %q", err, vmnetd.NextOf(err))
			}
		}
	}
}

// TestTheBusPolicyOfThePackage runs a bus with the system bus's rules and ours.
func TestTheBusPolicyOfThePackage(t *testing.T) {
	b := testkit.NewBusWithPolicy(t, "../packaging/dbus/org.vmnetd1.conf")
	f := &fake{more: []vmnetd.UplinkState{*aTeam()}}
	serve(t, b.Address, f)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", b.Address)
	c := client(t, b.Address)
	if err := attachOnce(t.Context(), c); err != nil {
		t.Errorf("root: %v", err)
	}
	if err := readAll(t.Context(), c); err != nil {
		t.Errorf("root: %v", err)
	}
	if got := asNobody(t, "read"); got != "ok" {
		t.Errorf("nobody reads: %s", got)
	}
	if got := asNobody(t, "attach"); !strings.HasPrefix(got, "Denied: ") || !strings.Contains(got, "usermod") {
		t.Errorf("nobody attaches: %s", got)
	}
	f.mu.Lock()
	before := len(f.verbs)
	f.mu.Unlock()
	if got := asNobody(t, "uplinks"); got != "" {
		t.Errorf("not denied:\n%s", got)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if asked := f.verbs[before:]; len(asked) > 0 {
		t.Errorf("the agent was asked: %v", asked)
	}
}

func TestHostileMessagesLeaveTheDaemonAlive(t *testing.T) {
	address := testkit.StartBus(t)
	var log lockedBuffer
	s := serve(t, address, &fake{more: []vmnetd.UplinkState{*aTeam()}}, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	conn := s.bus.Conn()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	c := client(t, address)
	if err := readAll(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	before := len(openFDs())
	said := asNobody(t, "hostile")
	for _, want := range []string{"Attach ah: Tried to send", "Attach a{sh}: Tried to send", "Attach 17 fds: ", "Attach h index: ", "Explain odd types: option queues"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not among the answers:\n%s", want, said)
		}
	}
	if err := readAll(t.Context(), c); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	// What came later was answered: this was read before.
	if !strings.Contains(log.String(), "dropped a D-Bus message") {
		t.Errorf("the message that cannot be decoded did not come: %s", log.String())
	}
	if s.bus.Conn() != conn || !conn.Connected() {
		t.Error("the daemon lost its connection")
	}
	if after := len(openFDs()); after > before {
		t.Errorf("%d file descriptors, %d before", after, before)
	}
}

// sendHostile sends what no client of ours would, over connections that
// negotiated fds.
func sendHostile(ctx context.Context) (string, error) {
	var said strings.Builder
	fd := dbus.UnixFD(1)
	seventeen := make([]dbus.UnixFD, 17)
	bodies := map[string][]any{
		"ah":        {[]dbus.UnixFD{fd}},
		"a{sh}":     {map[string]dbus.UnixFD{"x": fd}},
		"17 fds":    {seventeen},
		"h":         {fd},
		"v of ah":   {"vm1", map[string]dbus.Variant{"id": dbus.MakeVariant([]dbus.UnixFD{fd})}},
		"h index":   {dbus.UnixFDIndex(0)},
		"ah index":  {[]dbus.UnixFDIndex{0, 7, 1 << 31}},
		"odd types": {"vm1", map[string]dbus.Variant{"queues": dbus.MakeVariant([]any{1, "x"})}},
		"big":       {"vm1", map[string]dbus.Variant{"id": dbus.MakeVariant(strings.Repeat("x", 1<<20))}},
		"nothing":   {},
	}
	// Near what bus and library each take for too deep.
	for depth := 50; depth < 66; depth++ {
		deep := dbus.MakeVariant("x")
		for range depth {
			deep = dbus.MakeVariant(deep)
		}
		bodies[fmt.Sprint("depth ", depth)] = []any{"vm1", map[string]dbus.Variant{"id": deep}}
	}
	for name, body := range bodies {
		for _, method := range []string{"org.vmnetd1.Manager.Attach", "org.vmnetd1.Manager.Explain", "org.vmnetd1.Manager.DomainHook", "org.vmnetd1.Manager.Import", "a.b.c"} {
			err := hostileCall(ctx, method, body)
			if ctx.Err() != nil {
				return "", fmt.Errorf("%s %s: no answer: %w", method, name, ctx.Err())
			}
			fmt.Fprintf(&said, "%s %s: %v\n", method, name, err)
		}
	}
	return said.String(), sendUndecodable()
}

// sendUndecodable sends a message that the bus passes on and godbus cannot
// decode: a dict whose keys are signatures. Nobody answers it.
func sendUndecodable() error {
	raw, err := net.Dial("unix", strings.TrimPrefix(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "unix:path="))
	if err != nil {
		return err
	}
	conn, err := dbus.NewConn(signatureKeys{raw})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Auth(nil); err != nil {
		return err
	}
	if err := conn.Hello(); err != nil {
		return err
	}
	if err := conn.Object(busName, rootPath).Call("a.b.c", dbus.FlagNoReplyExpected, map[byte]string{0: "x"}).Err; err != nil {
		return err
	}
	return conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err // the bus has read it
}

// signatureKeys writes a{gs} where godbus writes a{ys}: with a key of zero the
// bytes after it are the same.
type signatureKeys struct{ net.Conn }

func (c signatureKeys) Write(p []byte) (int, error) {
	return c.Conn.Write(bytes.ReplaceAll(p, []byte("a{ys}"), []byte("a{gs}")))
}

// hostileCall makes one call over a connection of its own, because the bus ends
// some of them, and sends the daemon a signal that only the bus may.
func hostileCall(ctx context.Context, method string, body []any) error {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	defer conn.Close()
	lost := &dbus.Message{Type: dbus.TypeSignal, Body: []any{busName}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(busName),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface:   dbus.MakeVariant("org.freedesktop.DBus"),
		dbus.FieldMember:      dbus.MakeVariant("NameLost"),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(busName)),
	}}
	if err := conn.Send(lost, nil).Err; err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return conn.Object(busName, rootPath).CallWithContext(short, method, 0, body...).Err
}

// stealToken tries to use root's token.
func stealToken(ctx context.Context) (string, error) {
	_, set, err := claim(ctx, os.Getenv("SOCKET"), []byte(strings.Repeat("t", tokenSize)), 0)
	if err == nil {
		set.Close()
	}
	return "stolen", err
}

// crowd opens many connections that say nothing and counts those that the
// daemon keeps.
func crowd(context.Context) (string, error) {
	var fds []int
	for range 3 * mostPeersOfUser {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: os.Getenv("SOCKET")}); err != nil {
			return "", err
		}
		fds = append(fds, fd)
	}
	closed := 0
	for deadline := time.Now().Add(testkit.Patience); closed < 2*mostPeersOfUser && time.Now().Before(deadline); {
		closed = 0
		for _, fd := range fds {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			if n, _ := unix.Poll(poll, 1); n > 0 {
				closed++
			}
		}
	}
	return fmt.Sprint(closed), nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
