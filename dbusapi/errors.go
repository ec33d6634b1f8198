package dbusapi

import (
	"context"
	"errors"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// toBus writes an error as it travels: the name from vmnetd.Classes, the
// sentence, and what to do next.
func toBus(err error) *dbus.Error {
	return dbus.NewError(errorPrefix+vmnetd.ClassOf(err).Name, []any{clean(err.Error()), clean(vmnetd.NextOf(err))})
}

// fromBus is toBus read back, and what the bus itself answers put into our
// words.
func fromBus(err error) error {
	var e dbus.Error
	if !errors.As(err, &e) {
		return fromConnection(err)
	}
	text, next := bodyString(e.Body, 0), bodyString(e.Body, 1)
	if name, ours := strings.CutPrefix(e.Name, errorPrefix); ours {
		return classNamed(name, text, next)
	}
	switch e.Name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
		return notRunning()
	case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected":
		return goneAway()
	case "org.freedesktop.DBus.Error.AccessDenied":
		return vmnetd.Errorf(vmnetd.ErrDenied, "the bus does not let you ask vmnetd for this").WithNext(joinGroup(defaultGroup))
	case "org.freedesktop.DBus.Error.UnknownMethod", "org.freedesktop.DBus.Error.UnknownInterface":
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "the running daemon does not know this: %s", text).
			WithNext("it may be older than this program: systemctl restart vmnetd")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "%s: %s", e.Name, text)
}

func fromConnection(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return vmnetd.Errorf(vmnetd.ErrFailed, "interrupted: %w", err).WithNext("the daemon goes on with it: vmnetd list")
	case errors.Is(err, context.DeadlineExceeded):
		return vmnetd.Errorf(vmnetd.ErrFailed, "the daemon did not answer in time: %w", err).WithNext("it goes on: vmnetd list")
	}
	return goneAway()
}

func classNamed(name, text, next string) error {
	for _, c := range vmnetd.Classes {
		if c.Name == name {
			return vmnetd.Errorf(c.Err, "%s", text).WithNext(next)
		}
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "%s", text).WithNext(next)
}

func notRunning() error {
	return vmnetd.Errorf(vmnetd.ErrUnreachable, "the daemon is not running").
		WithNext("start it: systemctl start vmnetd, or vmnetd serve")
}

func goneAway() error {
	return vmnetd.Errorf(vmnetd.ErrUnreachable, "the daemon or the bus went away before it answered").
		WithNext("see  systemctl status vmnetd dbus, then vmnetd list")
}

func bodyString(body []any, i int) string {
	if i >= len(body) {
		return ""
	}
	s, _ := body[i].(string)
	return s
}

// clean makes a string one that D-Bus takes: the bus disconnects who sends
// anything but UTF-8 without NUL (D-Bus specification, "Basic types").
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
