package hypervisor

import (
	"context"
	"errors"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// session is the connection that is there.
func (l *Libvirt) session() (*lvSession, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.now != nil:
		return l.now, nil
	case len(l.sockets) == 0:
		return nil, vmnetd.Errorf(vmnetd.ErrUnsupported, "libvirt is not asked: the configuration does not name it").
			WithNext("add to the configuration: hypervisors: {libvirt: {uri: qemu:///system}}")
	case l.why != nil:
		return nil, l.why
	}
	return nil, lvNoAnswer(l.sockets[0], errLvNotYet)
}

var (
	errLvNotYet    = errors.New("vmnetd is not connected yet")
	errLvNotListed = errors.New("it has not told which VMs it has yet")
)

// call is the only way to ask libvirtd: within limit, and no longer than ctx.
// going is closed at the end of a call that goes on without us.
func (l *Libvirt) call(ctx context.Context, limit time.Duration, f func(*libvirt.Libvirt) error) (going <-chan struct{}, err error) {
	s, err := l.session()
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = s.do(limited, f)
	var alone *abandonedError
	if errors.As(err, &alone) {
		going = alone.done
	}
	return going, l.told(ctx, s, err)
}

// told makes an error of ours of what is not libvirt's own refusal.
func (l *Libvirt) told(ctx context.Context, s *lvSession, err error) error {
	var refused libvirt.Error
	switch {
	case err == nil || errors.As(err, &refused):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, libvirt.ErrUnsupported):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "libvirt %s cannot do that", lvVersion(s.version))
	}
	return lvNoAnswer(s.path, lvCut(err))
}

// query asks something that changes nothing.
func (l *Libvirt) query(ctx context.Context, f func(*libvirt.Libvirt) error) error {
	_, err := l.call(ctx, l.limits.Query, f)
	return err
}

// change changes a domain. When nobody waits for the end any more, the next one
// who enters the domain does.
func (l *Libvirt) change(ctx context.Context, uuid lvUUID, f func(*libvirt.Libvirt) error) error {
	going, err := l.call(ctx, l.limits.Change, f)
	if going != nil {
		l.mu.Lock()
		l.unsure[uuid] = going
		l.mu.Unlock()
	}
	return err
}

// settled waits for the end of a change that nobody waited for.
func (l *Libvirt) settled(ctx context.Context, uuid lvUUID) error {
	l.mu.Lock()
	done := l.unsure[uuid]
	l.mu.Unlock()
	if done == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, l.limits.Change)
	defer cancel()
	select {
	case <-done:
	case <-limited.Done():
		return vmnetd.Errorf(vmnetd.ErrBusy, "libvirtd has not finished an earlier change of this VM: %w", limited.Err()).
			WithNext("virsh domjobinfo VM; try again")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unsure[uuid] == done {
		delete(l.unsure, uuid)
	}
	return nil
}

// lvRefused is libvirt's own refusal as an operator reads it.
func lvRefused(name, what string, err error) error {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return err
	}
	class := vmnetd.ErrFailed
	switch libvirt.ErrorNumber(e.Code) {
	case libvirt.ErrNoDomain:
		return vmnetd.Errorf(vmnetd.ErrNotFound, "libvirt has no VM %s any more", vmnetd.Printable(name))
	case libvirt.ErrOperationDenied, libvirt.ErrAccessDenied, libvirt.ErrAuthFailed, libvirt.ErrAuthUnavailable, libvirt.ErrAuthCancelled:
		return vmnetd.Errorf(vmnetd.ErrDenied, "libvirt does not let vmnetd %s: %s", what, lvText(e.Message)).
			WithNext("let vmnetd use a socket for writing: qemu:///system?socket=" + libvirtdSocket)
	case libvirt.ErrOperationTimeout:
		class = vmnetd.ErrBusy
	case libvirt.ErrConfigUnsupported, libvirt.ErrNoSupport:
		class = vmnetd.ErrUnsupported
	}
	return vmnetd.Errorf(class, "libvirt cannot %s: %s", what, lvText(e.Message))
}

// isLv says whether libvirt refused with that code.
func isLv(err error, code libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}

// absent says that nobody listens there.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}
