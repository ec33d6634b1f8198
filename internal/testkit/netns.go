package testkit

import (
	"context"
	"os/exec"

	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Netns is a network namespace of a test's own. It has no name and vanishes
// with the test, and with everything in it.
type Netns struct {
	ns   *netns.NS
	conn *rtnl.Conn
}

// NewNetns makes an empty namespace with lo up.
func NewNetns(t TB) *Netns {
	t.Helper()
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	n := &Netns{ns: ns}
	err = ns.Do(func() error {
		var err error
		n.conn, err = rtnl.Open()
		return err
	})
	if err != nil {
		t.Fatalf("cannot open netlink in a new namespace: %v", err)
	}
	t.Cleanup(func() { _ = n.conn.Close() })
	n.SetUp(t, "lo")
	return n
}

// Do runs f in the namespace, on a thread of its own.
func (n *Netns) Do(f func() error) error { return n.ns.Do(f) }

// NS is the namespace.
func (n *Netns) NS() *netns.NS { return n.ns }

// Conn is netlink in the namespace.
func (n *Netns) Conn() *rtnl.Conn { return n.conn }

// Path names the namespace for other programs, as long as the test runs.
func (n *Netns) Path() string { return n.ns.Path() }

// Command is a command that runs in the namespace when it is started, with the
// process id that Start gives it: nsenter(1) becomes the program. /sys goes on
// showing the devices of the namespace it was mounted in.
func (n *Netns) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.Path(), "--", name}, args...)...)
}
