package hypervisor

import (
	"context"
	"errors"
	"time"

	"github.com/vmnetd/vmnetd"
)

// ear is the connection to a VM's second QMP socket, which is ours alone and
// stays: what it tells costs nothing while nothing happens.
type ear struct {
	conn     *Conn
	peer     peer
	vm, path string
	status   string // of query-status and the events since; q.mu
}

// Statuses of query-status that are told apart (QEMU qapi/run-state.json,
// RunState).
const (
	statusRunning   = "running"
	statusPaused    = "paused"
	statusInMigrate = "inmigrate"
	statusSuspended = "suspended" // the guest sleeps (S3), and its NIC may wake it
)

// hears says whether an ear listens to that run of the VM.
func (e *ear) hears(vm VM) bool {
	return e.peer.pid == 0 || vm.PID == 0 || e.peer.instance == vm.Instance
}

// heard says whether a VM's events tell what it does.
func (q *QMP) heard(vm VM) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.ears[vm.Name]
	return e != nil && e.hears(vm)
}

// overhear adds to a VM what its events told since it was asked.
func (q *QMP) overhear(vm VM) VM {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.ears[vm.Name]
	if e == nil || !e.hears(vm) {
		return vm
	}
	vm.Running = e.status == statusRunning
	vm.Incoming = e.status == statusInMigrate
	vm.Halted = !vm.Running && e.status != statusSuspended
	return vm
}

// listen connects to a second socket and tells what comes out of it until the
// connection or ctx ends. heard: it was connected.
func (q *QMP) listen(ctx context.Context, name, path string, told func(filter bool)) (heard bool, err error) {
	n, err := q.openEvents(path)
	if err != nil {
		return false, err
	}
	e := &ear{vm: name, path: path}
	err = q.lendEar(ctx, e, n)
	n.close()
	if err != nil {
		return false, err
	}
	defer func() { _ = e.conn.Disconnect() }()
	q.mu.Lock()
	q.ears[name] = e
	q.mu.Unlock()
	defer q.deafen(e)
	told(true) // what changed before is not told
	for {
		ev, err := e.conn.events.next(ctx)
		if err != nil {
			return true, err
		}
		switch ev.Event {
		case "RESUME", "WAKEUP":
			q.hear(e, statusRunning)
		case "STOP":
			q.hear(e, statusPaused)
		case "SUSPEND":
			q.hear(e, statusSuspended)
		case "NIC_RX_FILTER_CHANGED":
			told(true)
			continue
		case "DEVICE_DELETED":
		default:
			continue
		}
		told(false)
	}
}

// lendEar connects. Whoever else holds the socket makes QEMU silent.
func (q *QMP) lendEar(ctx context.Context, e *ear, n *node) error {
	e.conn = newConn(q.dialer(n, e.vm, q.limits.Appear, &e.peer), q.limits)
	if err := e.conn.Open(ctx); err != nil {
		if errors.Is(err, errNoGreeting) {
			return heldEar(e.path, n)
		}
		return err
	}
	var status struct{ Status string }
	if err := e.conn.Do(ctx, "query-status", nil, &status); err != nil {
		_ = e.conn.Disconnect()
		return err
	}
	e.status = status.Status
	return nil
}

func heldEar(path string, n *node) error {
	who := "another program"
	if h, err := findHolder(n); err == nil {
		who = h.String()
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "%s is held by %s, and QEMU serves one client at a time: it must be vmnetd's alone", path, who).
		WithNext("give QEMU a socket for vmnetd alone: -qmp unix:PATH,server=on,wait=off")
}

func (q *QMP) hear(e *ear, status string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.status = status
}

func (q *QMP) deafen(e *ear) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ears[e.vm] == e {
		delete(q.ears, e.vm)
	}
}

// hearsAt says whether a socket is listened to.
func (q *QMP) hearsAt(name, path string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.ears[name]
	return e != nil && e.path == path
}

// Filter asks what the guest wants a NIC to receive, by the VM's own events
// socket: only with one is the next change told. vmnetd.ErrUnsupported: it has
// none. vmnetd.ErrNotFound: there is no such NIC.
func (q *QMP) Filter(ctx context.Context, vm VM, nic NIC) (RxFilter, error) {
	if err := vmnetd.CheckID(nic.ID); err != nil {
		return RxFilter{}, err
	}
	q.mu.Lock()
	e := q.ears[vm.Name]
	q.mu.Unlock()
	if e == nil || !e.hears(vm) {
		return RxFilter{}, q.noEar(vm.Name)
	}
	eng := &engine{monitor: e.conn, vm: vm.Name, since: time.Now(), limits: q.limits, hit: q.hit}
	f, err := eng.rxFilter(ctx, nic.ID, deviceID(nic.ID))
	if err != nil {
		return RxFilter{}, q.explain(&link{engine: eng, peer: e.peer, path: e.path}, err)
	}
	return f, nil
}

func (q *QMP) noEar(name string) error {
	err := vmnetd.Errorf(vmnetd.ErrUnsupported, "VM %s has no events socket, so what its guest changes is not told", vmnetd.Printable(name))
	patterns, _ := q.listened()
	if len(patterns) == 0 {
		return err.WithNext("add to the configuration: hypervisors: {qmp: {events: [/run/vmnetd/events/{vm}.sock]}}, and start QEMU with a second -qmp unix:/run/vmnetd/events/" + vmnetd.Printable(name) + ".sock,server=on,wait=off")
	}
	return err.WithNext("start QEMU with a second -qmp unix:" + patterns[0].path(vmnetd.Printable(name)) + ",server=on,wait=off")
}
