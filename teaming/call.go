package teaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	if pid := t.pid(team); pid != 0 && t.elsewhere(pid) {
		return "", fmt.Errorf("%w", ErrGone)
	}
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
// (teamd/teamd_usock.c). It goes by the runtime's poller: a read that blocks with
// SO_RCVTIMEO ends with EINTR at any signal, also with SA_RESTART (signal(7)),
// and the runtime sends itself some.
func ask(ctx context.Context, path, method string, args []string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixpacket", path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return "", fmt.Errorf("%w", ErrGone)
	case errors.Is(err, unix.EAGAIN): // its queue is full: nobody accepts
		return "", context.DeadlineExceeded
	case err != nil:
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 1<<16)
	n := 0
	if _, err = conn.Write(request(method, args)); err == nil {
		n, err = conn.Read(buf)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE): // it ended while it was asked
		return "", fmt.Errorf("%w", ErrGone)
	case err != nil:
		return "", err
	}
	return answer(string(buf[:n]))
}

// escaped is how an argument is written, which ends with its line
// (teamd/teamd_usock.c, __strdecode).
var escaped = strings.NewReplacer("\\", `\\`, "\n", `\n`)

func request(method string, args []string) []byte {
	text := "REQUEST\n" + method + "\n"
	for _, a := range args {
		text += escaped.Replace(a) + "\n"
	}
	return []byte(text)
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
	"ConfigDumpFail":   vmnetd.ErrNotFound, // of a port that is not in (teamd/teamd_config.c, teamd_config_port_dump)
	"ConfigUpdateFail": vmnetd.ErrInvalid, "InvalidArgs": vmnetd.ErrInvalid,
	"OpNotSupp": vmnetd.ErrUnsupported,
}
