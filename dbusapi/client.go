package dbusapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/bus"
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

// Dial connects to the bus (DBUS_SYSTEM_BUS_ADDRESS, or the system bus) and
// finds the daemon on it. It never starts one.
func Dial(ctx context.Context) (*Client, error) {
	return dial(ctx, "")
}

func dial(ctx context.Context, address string) (*Client, error) {
	log := slog.New(slog.DiscardHandler)
	conn, err := bus.Dial(ctx, address, log, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn}
	err = conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, busName).Store(&c.owner)
	if err != nil {
		conn.Close()
		return nil, fromBus(err)
	}
	return c, nil
}

// Close ends the connection; the daemon goes on with what it was asked.
func (c *Client) Close() error { return c.conn.Close() }

// call asks the daemon found by Dial, and no other that came later.
func (c *Client) call(ctx context.Context, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	call := c.conn.Object(c.owner, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if call.Err != nil {
		call.Err = fromBus(call.Err)
	}
	return call
}

func (c *Client) manager(ctx context.Context, method string, args ...any) *dbus.Call {
	return c.call(ctx, rootPath, managerIface+"."+method, args...)
}

// callJSON reads an answer that is JSON.
func callJSON[T any](ctx context.Context, c *Client, method string, args ...any) (answer T, err error) {
	var text string
	if err := c.manager(ctx, method, args...).Store(&text); err != nil {
		return answer, err
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return answer, vmnetd.Errorf(vmnetd.ErrFailed, "the daemon's answer to %s is not what this program knows: %w", method, err).
			WithNext("daemon and program may differ in version: systemctl restart vmnetd")
	}
	return answer, nil
}

// Attach gives a VM a NIC; Changed is false when it had that NIC already.
func (c *Client) Attach(ctx context.Context, req vmnetd.Request) (vmnetd.Attachment, error) {
	return callJSON[vmnetd.Attachment](ctx, c, "AttachVM", req.VM, encodeRequest(req))
}

// Detach takes NICs from a VM and returns them as they are afterwards: a NIC
// that the guest has not let go yet is in phase detaching.
func (c *Client) Detach(ctx context.Context, vm string, sel agent.Selector) ([]vmnetd.Attachment, error) {
	return callJSON[[]vmnetd.Attachment](ctx, c, "DetachVM", vm, encodeSelector(sel))
}

// Explain is what the policy says to a request, for every network open to the
// VM when all is set.
func (c *Client) Explain(ctx context.Context, req vmnetd.Request, all bool) ([]policy.Explanation, error) {
	options := encodeRequest(req)
	options["all"] = dbus.MakeVariant(all)
	return callJSON[[]policy.Explanation](ctx, c, "Explain", req.VM, options)
}

// List is the attachments of one VM, or of all when vm is "".
func (c *Client) List(ctx context.Context, vm string) ([]vmnetd.Attachment, error) {
	return callJSON[[]vmnetd.Attachment](ctx, c, "List", vm)
}

// Counters is what the rules of an attachment's filter have matched, in their
// order; empty where nothing is filtered.
func (c *Client) Counters(ctx context.Context, vm, id string) ([]vmnetd.Counter, error) {
	var found []vmnetd.Counter
	err := c.manager(ctx, "Counters", vm, id).Store(&found)
	return found, err
}

// Uplinks is the state of every declared uplink.
func (c *Client) Uplinks(ctx context.Context) ([]vmnetd.UplinkState, error) {
	return callJSON[[]vmnetd.UplinkState](ctx, c, "Uplinks", "")
}

// Uplink is the state of one declared uplink: vmnetd.ErrNotFound when there is none
// of that name. Nobody is asked about the others.
func (c *Client) Uplink(ctx context.Context, name string) (vmnetd.UplinkState, error) {
	found, err := callJSON[[]vmnetd.UplinkState](ctx, c, "Uplinks", name)
	if err == nil && len(found) != 1 {
		err = vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %q", name).WithNext("vmnetd uplink list")
	}
	if err != nil {
		return vmnetd.UplinkState{}, err
	}
	return found[0], nil
}

// VMs names every VM whose socket is there, or that has or wants a NIC.
func (c *Client) VMs(ctx context.Context) ([]string, error) {
	return callJSON[[]string](ctx, c, "VMs")
}

// Status is the daemon's state with all its problems.
func (c *Client) Status(ctx context.Context) (vmnetd.Status, error) {
	return callJSON[vmnetd.Status](ctx, c, "Status")
}

// Doctor checks the host as the daemon sees it.
func (c *Client) Doctor(ctx context.Context) ([]vmnetd.Check, error) {
	return callJSON[[]vmnetd.Check](ctx, c, "Doctor")
}

// Events is what happened since a moment, oldest first.
func (c *Client) Events(ctx context.Context, since time.Time) ([]vmnetd.Event, error) {
	return callJSON[[]vmnetd.Event](ctx, c, "Events", uint64(max(0, since.UnixMicro())))
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) error { return c.manager(ctx, "Reload").Err }

// OpenTap makes a device and gets its queues; the caller closes the set. The
// attachment lives as long as the process ownerPID; 0 is the calling process.
func (c *Client) OpenTap(ctx context.Context, req vmnetd.Request, ownerPID int) (vmnetd.Attachment, *queuefd.Set, error) {
	var none vmnetd.Attachment
	var path dbus.ObjectPath
	var token []byte
	if err := c.manager(ctx, "OpenTap", req.VM, encodeRequest(req)).Store(&path, &token); err != nil {
		return none, nil, err
	}
	var socket string
	if err := c.call(ctx, rootPath, propsIface+".Get", managerIface, "fd_socket").Store(&socket); err != nil {
		return none, nil, err
	}
	return claim(ctx, socket, token, ownerPID)
}
