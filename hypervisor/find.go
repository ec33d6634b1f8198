package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
)

const viaQMP = "qmp"

func itoa(n int) string { return strconv.Itoa(n) }

// socketOf reads via: "" or "qmp" (by the patterns: path is ""), "qmp:SOCKET".
func socketOf(via string) (path string, err error) {
	if via == "" || via == viaQMP {
		return "", nil
	}
	path, ok := strings.CutPrefix(via, viaQMP+":")
	if !ok || !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no way to a VM", via).
			WithNext("write qmp, or qmp:SOCKET with the socket's absolute path")
	}
	return path, nil
}

// Allowed says whether a user may name a VM's socket that way: root any, others
// (vmnetd.ErrDenied) only one that the configured patterns cover. Whoever
// may choose the socket chooses who gets the queues.
func (q *QMP) Allowed(uid uint32, via string) error {
	path, err := socketOf(via)
	if err != nil || path == "" || uid == 0 {
		return err
	}
	patterns := q.config()
	for _, p := range patterns {
		if p.covers(path) {
			return nil
		}
	}
	return vmnetd.Errorf(vmnetd.ErrDenied, "only root may name a socket outside of the configured directories, and %s is outside", path).
		WithNext("leave --via out, or have the directory added to hypervisors: qmp: sockets:")
}

// openSocket opens a socket's node; no link is followed beneath a configured
// directory.
func (q *QMP) openSocket(path string) (*node, error) {
	return openCovered(q.config(), path)
}

func openCovered(patterns []pattern, path string) (*node, error) {
	for _, p := range patterns {
		if rel, ok := p.beneath(path); ok && p.covers(path) {
			return openNode(p.dir, rel)
		}
	}
	return openNode(filepath.Dir(path), filepath.Base(path))
}

// Find looks a VM up by name. vmnetd.ErrNotFound: none of the sockets exists and
// answers in that name. A run of a VM that was found before is told as it was
// then: VCPUs and Running may have changed.
func (q *QMP) Find(ctx context.Context, name, via string) (VM, error) {
	vm, err := q.find(ctx, name, via, q.recall)
	return q.overhear(vm), err
}

// Ask is Find that always asks the VM itself.
func (q *QMP) Ask(ctx context.Context, name, via string) (VM, error) {
	vm, err := q.find(ctx, name, via, func(string, string) (VM, bool) { return VM{}, false })
	return q.overhear(vm), err
}

func (q *QMP) find(ctx context.Context, name, via string, recall func(name, path string) (VM, bool)) (VM, error) {
	if err := vmnetd.CheckVMName(name); err != nil {
		return VM{}, err
	}
	explicit, err := socketOf(via)
	if err != nil {
		return VM{}, err
	}
	paths := q.candidates(name, explicit)
	if len(paths) == 0 {
		return VM{}, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no VM %s: no socket patterns are configured", vmnetd.Printable(name)).
			WithNext("add to the configuration: hypervisors: {qmp: {sockets: [/run/vmnetd/qmp/{vm}.sock]}}")
	}
	next := "start QEMU with -qmp unix:" + paths[0] + ",server=on,wait=off"
	var tried []string
	for _, path := range paths {
		if vm, ok := recall(name, path); ok {
			return vm, nil
		}
		vm, err := q.look(ctx, name, path)
		if err == nil {
			q.remember(name, path)
			return vm, nil
		}
		if !errors.Is(err, vmnetd.ErrNotFound) {
			return VM{}, err
		}
		tried = append(tried, err.Error())
		if knows := vmnetd.NextOf(err); knows != "" { // a VM of another name is there
			next = knows
		}
	}
	return VM{}, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no VM %s: %s", vmnetd.Printable(name), strings.Join(tried, "; ")).WithNext(next)
}

func (q *QMP) candidates(name, explicit string) []string {
	if explicit != "" {
		return []string{explicit}
	}
	patterns := q.config()
	var paths []string
	for _, p := range patterns {
		paths = append(paths, p.path(name))
	}
	return paths
}

// look asks one socket who it is.
func (q *QMP) look(ctx context.Context, name, path string) (VM, error) {
	l, err := q.connect(ctx, name, path)
	if err != nil {
		return VM{}, notHere(path, err)
	}
	defer l.close()
	vm, err := l.describe(ctx)
	if err != nil {
		return VM{}, q.explain(l, err)
	}
	q.keep(l, vm, l.node)
	return vm, nil
}

// notHere makes vmnetd.ErrNotFound of an error that says that no QEMU is there.
func notHere(path string, err error) error {
	switch {
	case errors.Is(err, ErrClosed):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s: QEMU went away", path)
	case nobodyThere(err):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s: %w", path, cause(err))
	}
	return err
}

// cause is the last error of a chain: "no such file or directory", without
// the path that is printed already.
func cause(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

func (l *link) describe(ctx context.Context) (VM, error) {
	vm := VM{Name: l.vm, Via: viaQMP + ":" + l.path, Socket: l.path, PID: l.pid, Instance: l.instance}
	who, err := l.whoIs(ctx)
	if err != nil {
		return vm, err
	}
	var status struct {
		Running bool
		Status  string
	}
	var cpus []struct{}
	for _, ask := range []struct {
		command string
		answer  any
	}{{"query-status", &status}, {"query-cpus-fast", &cpus}} {
		if err := l.Do(ctx, ask.command, nil, ask.answer); err != nil {
			return vm, err
		}
	}
	if who.name != "" && who.name != l.vm && l.args.ID != l.vm {
		return vm, vmnetd.Errorf(vmnetd.ErrNotFound, "the VM behind %s calls itself %s, not %s", l.path, vmnetd.Printable(who.name), vmnetd.Printable(l.vm)).
			WithNext(fmt.Sprintf("use that name (vmnetd attach %s), or start this QEMU with -name %s", vmnetd.Printable(who.name), vmnetd.Printable(l.vm)))
	}
	if strings.Trim(who.uuid, "0-") != "" {
		vm.UUID = who.uuid
	}
	vm.Running, vm.VCPUs, vm.Incoming = status.Running, len(cpus), l.known.incoming(status.Status)
	return vm, nil
}

// explain turns what went wrong on a connection into what an operator reads.
func (q *QMP) explain(l *link, err error) error {
	var told *vmnetd.Error
	name := vmnetd.Printable(l.vm)
	switch {
	case errors.As(err, &told):
		return err
	case errors.Is(err, errNoReply) && l.pid != 0 && stopped(l.pid):
		return frozen(l, l.pid)
	case errors.Is(err, errNoReply):
		return vmnetd.Errorf(vmnetd.ErrFailed, "VM %s: %w; QEMU is frozen or overloaded", name, err).
			WithNext("see whether the QEMU behind " + l.path + " still runs")
	case errors.Is(err, ErrClosed):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "QEMU of VM %s went away: %w", name, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("VM %s: %w", name, err)
	}
	var refused *Error
	if errors.As(err, &refused) {
		return vmnetd.Errorf(vmnetd.ErrFailed, "QEMU of VM %s refused: %w", name, err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "VM %s: %w", name, err)
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
