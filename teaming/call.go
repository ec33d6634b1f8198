package teaming

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/bus"
)

// BusName is what the names of all teamd on the bus begin with: the team's
// follows (teamd/teamd_dbus.c).
const BusName = "org.libteam.teamd"

const busPath = "/org/libteam/teamd"

// answerLimit is how long a teamd may take for an answer. It is single-threaded
// and answers in less than a millisecond, or it hangs.
const answerLimit = 2 * time.Second

// call calls a method of a team's teamd: over D-Bus, and where there is no bus,
// it is not on it or we are not let through, over its own socket. ErrGone and
// ErrSilent tell why there was no answer.
func (t *Teams) call(ctx context.Context, team, method string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	text, err := t.overBus(ctx, team, method, args)
	if errors.Is(err, errNotOnBus) {
		text, err = ask(ctx, t.socket(team), method, args)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "", fmt.Errorf("%w", ErrSilent)
	}
	return text, inWords(err)
}

// errNotOnBus says that the socket is to be tried.
var errNotOnBus = errors.New("not on the bus")

// notOnBus are the bus's own errors after which the socket is tried.
var notOnBus = map[string]bool{
	"org.freedesktop.DBus.Error.ServiceUnknown": true,
	"org.freedesktop.DBus.Error.NameHasNoOwner": true,
	"org.freedesktop.DBus.Error.AccessDenied":   true,
	"org.freedesktop.DBus.Error.Disconnected":   true,
	"org.freedesktop.DBus.Error.NoReply":        true, // it went away while it was asked
}

func (t *Teams) overBus(ctx context.Context, team, method string, args []string) (string, error) {
	if t.o.Bus == nil {
		return "", errNotOnBus
	}
	var all []any
	for _, a := range args {
		all = append(all, a)
	}
	body, err := t.o.Bus.Call(ctx, BusName+"."+team, busPath, BusName+"."+method, all...)
	refused := (*bus.CallError)(nil)
	switch {
	case errors.As(err, &refused) && notOnBus[refused.Name], errors.Is(err, vmnetd.ErrUnreachable):
		return "", errNotOnBus
	case err != nil:
		return "", err
	case len(body) == 0:
		return "", nil
	}
	text, _ := body[0].(string)
	return text, nil
}

func (t *Teams) socket(team string) string { return filepath.Join(runDir, team+".sock") }

// ask is call over teamd's socket: one packet there, one back
// (teamd/teamd_usock.c).
func ask(ctx context.Context, path, method string, args []string) (string, error) {
	fd, err := dial(path)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	end, _ := ctx.Deadline()
	left := unix.NsecToTimeval(max(time.Until(end), time.Millisecond).Nanoseconds())
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &left), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &left)); err != nil {
		return "", err
	}
	request := "REQUEST\n" + method + "\n" + strings.Join(append(args, ""), "\n")
	if err := unix.Send(fd, []byte(request), unix.MSG_NOSIGNAL); err != nil {
		return "", late(err)
	}
	buf := make([]byte, 1<<16)
	n, err := unix.Read(fd, buf)
	switch {
	case err != nil:
		return "", late(err)
	case n == 0:
		return "", fmt.Errorf("%w", ErrGone)
	}
	return answer(string(buf[:n]))
}

func late(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return context.DeadlineExceeded
	}
	return err
}

// dial connects to a socket that may be somebody's; nobody behind it is ErrGone.
func dial(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return -1, fmt.Errorf("%w", ErrGone)
	case errors.Is(err, unix.EAGAIN): // its queue is full: nobody accepts
		return -1, context.DeadlineExceeded
	}
	return -1, err
}

func answer(text string) (string, error) {
	kind, rest, _ := strings.Cut(text, "\n")
	switch kind {
	case "REPLY_SUCCESS":
		return rest, nil
	case "REPLY_ERROR":
		name, message, _ := strings.Cut(rest, "\n")
		return "", &bus.CallError{Name: BusName + "." + name, Text: strings.TrimSpace(message)}
	}
	return "", fmt.Errorf("teamd answers %q", vmnetd.Printable(kind))
}

// inWords is an error of teamd (teamd/teamd_dbus.c, teamd_usock.c) as ours.
func inWords(err error) error {
	refused := (*bus.CallError)(nil)
	if !errors.As(err, &refused) {
		return err
	}
	class, ok := refusals[strings.TrimPrefix(strings.TrimPrefix(refused.Name, BusName), ".")]
	if !ok {
		class = vmnetd.ErrFailed
	}
	return vmnetd.Errorf(class, "teamd: %s", vmnetd.Printable(strings.TrimSuffix(refused.Error(), ".")))
}

var refusals = map[string]error{
	"NoSuchDev": vmnetd.ErrNotFound, "PathDoesNotExist": vmnetd.ErrNotFound,
	"ConfigUpdateFail": vmnetd.ErrInvalid, "InvalidArgs": vmnetd.ErrInvalid,
	"OpNotSupp": vmnetd.ErrUnsupported,
}
