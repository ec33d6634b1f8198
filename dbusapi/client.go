package dbusapi

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/policy"
)

// Client talks to the daemon. Its methods may be called from several
// goroutines. Every error is one of the classes of the root package, with the
// daemon's own words; vmnetd.ErrUnreachable when there is no daemon.
type Client struct {
	conn  *dbus.Conn
	owner string // unique name of the daemon's connection
}

var errTODO = errors.New("not there yet")

// Dial connects to the bus (DBUS_SYSTEM_BUS_ADDRESS, or the system bus) and
// finds the daemon on it. It never starts one.
func Dial(ctx context.Context) (*Client, error) { return nil, errTODO }

// Close ends the connection; the daemon goes on with what it was asked.
func (c *Client) Close() error { return nil }

// Attach gives a VM a NIC; Changed is false when it had that NIC already.
func (c *Client) Attach(ctx context.Context, req vmnetd.Request) (vmnetd.Attachment, error) {
	return vmnetd.Attachment{}, errTODO
}

// Detach takes NICs from a VM and returns them as they are afterwards: a NIC
// that the guest has not let go yet is in phase detaching.
func (c *Client) Detach(ctx context.Context, vm string, sel agent.Selector) ([]vmnetd.Attachment, error) {
	return nil, errTODO
}

// Explain is what the policy says to a request, for every network open to the
// VM when all is set.
func (c *Client) Explain(ctx context.Context, req vmnetd.Request, all bool) ([]policy.Explanation, error) {
	return nil, errTODO
}

// List is the attachments of one VM, or of all when vm is "".
func (c *Client) List(ctx context.Context, vm string) ([]vmnetd.Attachment, error) {
	return nil, errTODO
}

// Uplinks is the state of every declared uplink.
func (c *Client) Uplinks(ctx context.Context) ([]vmnetd.UplinkState, error) { return nil, errTODO }

// Status is the daemon's state with all its problems.
func (c *Client) Status(ctx context.Context) (vmnetd.Status, error) {
	return vmnetd.Status{}, errTODO
}

// Doctor checks the host as the daemon sees it.
func (c *Client) Doctor(ctx context.Context) ([]vmnetd.Check, error) { return nil, errTODO }

// Events is what happened since a moment, oldest first.
func (c *Client) Events(ctx context.Context, since time.Time) ([]vmnetd.Event, error) {
	return nil, errTODO
}

// Watch calls on for each event from now on. It returns nil when ctx ends and
// vmnetd.ErrUnreachable when the daemon goes.
func (c *Client) Watch(ctx context.Context, on func(vmnetd.Event)) error { return errTODO }

// WatchSince is Watch with what happened since a moment in front, without a
// gap and without an event twice.
func (c *Client) WatchSince(ctx context.Context, since time.Time, on func(vmnetd.Event)) error {
	return errTODO
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) error { return errTODO }

// OpenTap makes a device and gets its queues; the caller closes the set. The
// attachment lives as long as the process ownerPID; 0 is the calling process.
func (c *Client) OpenTap(ctx context.Context, req vmnetd.Request, ownerPID int) (vmnetd.Attachment, *queuefd.Set, error) {
	return vmnetd.Attachment{}, nil, errTODO
}
