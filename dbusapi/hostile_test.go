package dbusapi

import (
	"context"
	"fmt"
	"os"
	"strings"
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
	"read":    func(ctx context.Context) (string, error) { return withClient(ctx, readAll) },
	"hostile": sendHostile,
	"steal":   stealToken,
	"crowd":   crowd,
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

func readAll(ctx context.Context, c *Client) error {
	if _, err := c.List(ctx, ""); err != nil {
		return err
	}
	if _, err := c.Status(ctx); err != nil {
		return err
	}
	if _, err := c.Explain(ctx, vmnetd.Request{VM: "vm1"}, false); err != nil {
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
	return nil
}

func TestNobodyMayReadButNotChange(t *testing.T) {
	address := testkit.StartBus(t)
	serve(t, address, &fake{})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	for _, name := range []string{"attach", "detach", "reload", "opentap"} {
		if got := asNobody(t, name); !strings.HasPrefix(got, "Denied: ") || !strings.Contains(got, "usermod -aG vmnetd") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := asNobody(t, "read"); got != "ok" {
		t.Errorf("read: %s", got)
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
		}
	}
}

// TestTheBusPolicyOfThePackage runs a bus with the system bus's rules and ours.
func TestTheBusPolicyOfThePackage(t *testing.T) {
	b := testkit.NewBusWithPolicy(t, "../packaging/dbus/org.vmnetd1.conf")
	serve(t, b.Address, &fake{})
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
}

func TestHostileMessagesLeaveTheDaemonAlive(t *testing.T) {
	address := testkit.StartBus(t)
	s := serve(t, address, &fake{})
	<-s.Ready()
	conn := s.bus.Conn()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	c := client(t, address)
	if err := readAll(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	before := len(openFDs())
	t.Log(asNobody(t, "hostile"))
	if err := readAll(t.Context(), c); err != nil {
		t.Errorf("afterwards: %v", err)
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
	deep := dbus.MakeVariant("x")
	for range 60 {
		deep = dbus.MakeVariant(deep)
	}
	for name, body := range map[string][]any{
		"ah":        {[]dbus.UnixFD{fd}},
		"a{sh}":     {map[string]dbus.UnixFD{"x": fd}},
		"17 fds":    {seventeen},
		"h":         {fd},
		"v of ah":   {"vm1", map[string]dbus.Variant{"id": dbus.MakeVariant([]dbus.UnixFD{fd})}},
		"h index":   {dbus.UnixFDIndex(0)},
		"ah index":  {[]dbus.UnixFDIndex{0, 7, 1 << 31}},
		"deep":      {"vm1", map[string]dbus.Variant{"id": deep}},
		"odd types": {"vm1", map[string]dbus.Variant{"queues": dbus.MakeVariant([]any{1, "x"})}},
		"big":       {"vm1", map[string]dbus.Variant{"id": dbus.MakeVariant(strings.Repeat("x", 1<<20))}},
		"nothing":   {},
	} {
		for _, method := range []string{"org.vmnetd1.Manager.Attach", "org.vmnetd1.Manager.Explain", "org.freedesktop.DBus.Properties.Get", "x.y"} {
			conn, err := dbus.ConnectSystemBus() // a new one each time: the bus ends some of them
			if err != nil {
				return "", err
			}
			err = conn.Object(busName, rootPath).CallWithContext(ctx, method, 0, body...).Err
			// A signal nobody asked for, and a reply to no call.
			_ = conn.Emit(rootPath, "org.freedesktop.DBus.NameLost", body...)
			conn.Close()
			if ctx.Err() != nil {
				return "", fmt.Errorf("%s %s: no answer: %w", method, name, ctx.Err())
			}
			fmt.Fprintf(&said, "%s %s: %v\n", method, name, err)
		}
	}
	return said.String(), nil
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
	for deadline := time.Now().Add(firstPacketLimit); closed < 2*mostPeersOfUser && time.Now().Before(deadline); {
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
