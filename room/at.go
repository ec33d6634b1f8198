package room

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
)

// At is the namespace of a path: /run/netns/NAME, /proc/PID/ns/net. The caller
// closes the Place, and with it ends the process in there: nothing of ours keeps
// the namespace. vmnetd.ErrNotFound: there is no such path; vmnetd.ErrInvalid: it
// is no network namespace, or the daemon's own.
func (r *Rooms) At(ctx context.Context, path string) (Place, error) {
	id, err := r.foreign(path)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(r.o.RunDir, "room-"+rand.Text()[:8]+".sock")
	defer os.Remove(socket) // it has served its purpose once it is connected to
	if err := r.o.Starter.Start(ctx, path, socket); err != nil {
		return nil, err
	}
	l, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	var why string
	switch {
	case l.said.Protocol != protocol:
		why = "vmnetd was replaced by another version since it was started"
	case l.ns.ID() != id:
		why = "another namespace came at that path at this moment"
	default:
		return newRemote(l, false), nil
	}
	_ = l.close()
	return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot work in the network namespace %s: %s", vmnetd.Printable(path), why).
		WithNext("try again, or restart vmnetd")
}

// foreign is the ID of the namespace of a path. Nothing of it is held.
func (r *Rooms) foreign(path string) (id string, err error) {
	name := vmnetd.Printable(path)
	if !filepath.IsAbs(path) {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no absolute path of a network namespace", name).WithNext("use one such as /run/netns/NAME")
	}
	ns, err := netns.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ESRCH):
		return "", vmnetd.Errorf(vmnetd.ErrNotFound, "there is no network namespace %s: %w", name, err).WithNext("ip netns list")
	case errors.Is(err, fs.ErrPermission):
		return "", vmnetd.Errorf(vmnetd.ErrDenied, "the network namespace %s cannot be opened: %w", name, err)
	case err != nil:
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "%s is not a network namespace", name).WithNext("use a path such as /run/netns/NAME or /proc/PID/ns/net")
	}
	defer ns.Close()
	if ns.Same(r.o.Conn.NS()) {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "%s is this host's own network namespace", name).WithNext("name a container's")
	}
	return ns.ID(), nil
}
