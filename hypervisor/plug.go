package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/internal/undo"
)

// ErrOtherRun says that another run of QEMU is behind the VM's socket than the
// one that was looked up.
var ErrOtherRun = errors.New("the VM was started again since it was looked up")

// enter connects to a VM that was found before and makes sure that it is still
// that run of it.
func (q *QMP) enter(ctx context.Context, vm VM) (*link, error) {
	l, err := q.connectFor(ctx, vm.Name, vm.Socket, patience{busy: q.limits.Busy})
	if err != nil {
		return nil, err
	}
	if vm.Instance != "" && l.instance != vm.Instance {
		l.close()
		return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "%w: VM %s", ErrOtherRun, vmnetd.Printable(vm.Name)).WithNext("try again")
	}
	return l, nil
}

// Plug hands a NIC over: a getfd for each queue, netdev_add, device_add. A NIC
// of that id that is plugged already is fine. nic.Open is called when the place
// is known; Plug closes what it gives. Each step is undone when a later one
// fails, and what an earlier attempt left is removed before.
func (q *QMP) Plug(ctx context.Context, vm VM, nic NIC) (Place, error) {
	if err := checkNIC(nic); err != nil {
		return Place{}, err
	}
	l, err := q.enter(ctx, vm)
	if err != nil {
		return Place{}, notHere(vm.Socket, err)
	}
	defer l.close()
	place, err := l.plug(ctx, nic)
	if err != nil {
		return Place{}, q.explain(l, err)
	}
	return place, nil
}

// survey is what Plug has to know of a VM. Each command costs QEMU about 0.1 ms,
// one after the other also when they are sent together, so it asks for little.
type survey struct {
	devices []property // those with an id
	netdevs []string   // that earlier attempts left
	*pciLayout
}

func (e *engine) survey(ctx context.Context, nic NIC) (s survey, err error) {
	if s.devices, err = e.list(ctx, peripheral); err != nil || has(s.devices, deviceID(nic.ID)) {
		return s, err
	}
	if !e.known.clean[nic.ID] {
		if s.netdevs, err = e.netdevs(ctx, nic.ID); err != nil {
			return s, err
		}
	}
	s.pciLayout, err = e.layout(ctx, s.devices)
	return s, err
}

func checkNIC(nic NIC) error {
	if err := vmnetd.CheckID(nic.ID); err != nil {
		return err
	}
	if len(nic.MAC) != 6 || nic.Open == nil {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "NIC %s has no MAC or no queues", nic.ID)
	}
	return nil
}

// plug is Plug's steps.
func (e *engine) plug(ctx context.Context, nic NIC) (Place, error) {
	s, err := e.survey(ctx, nic)
	if err != nil {
		return Place{}, err
	}
	if has(s.devices, deviceID(nic.ID)) {
		return e.already(ctx, nic.ID)
	}
	if err := e.deleteNetdevs(ctx, nic.ID, s.netdevs); err != nil {
		return Place{}, fmt.Errorf("what an earlier attempt left cannot be removed: %w", err)
	}
	place, err := e.findPlace(ctx, s, nic.Bus, nic.Addr)
	if err != nil {
		return Place{}, err
	}
	set, err := nic.Open(ctx)
	if err != nil {
		return Place{}, err
	}
	defer set.Close()
	if err := checkSet(nic, set); err != nil {
		return Place{}, err
	}
	return place, e.handOver(ctx, nic, set, place)
}

// checkSet: a list of vhost fds that does not match makes QEMU abort (net/tap.c,
// assertion in net_client_init1).
func checkSet(nic NIC, set *queuefd.Set) error {
	n, v := len(set.Queues), len(set.VHost)
	if n == 0 || nic.Queues != 0 && n != nic.Queues || v != 0 && v != n {
		return vmnetd.Errorf(vmnetd.ErrFailed, "NIC %s: %d queues and %d vhost descriptors were opened for %d queues", nic.ID, n, v, nic.Queues)
	}
	return nil
}

// handOver runs the steps and takes back what was done when one fails, also
// when the caller has gone.
func (e *engine) handOver(ctx context.Context, nic NIC, set *queuefd.Set, place Place) error {
	undoCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.limits.Command+e.limits.Undo)
	defer cancel()
	h := &handover{e: e, nic: nic, set: set, place: place, netdev: newNetdevID(nic.ID), undoCtx: undoCtx}
	h.clean = e.known.begin(nic.ID)
	for _, step := range []func(context.Context) error{h.opened, h.sendFDs, h.addNetdev, h.addDevice} {
		if err := step(ctx); err != nil {
			return h.takeBack(err)
		}
	}
	e.known.clean[nic.ID] = true
	return nil
}

// handover is one attempt.
type handover struct {
	e       *engine
	nic     NIC
	set     *queuefd.Set
	place   Place
	netdev  string
	clean   bool // no earlier attempt can have left anything
	undoCtx context.Context
	back    undo.Stack
}

// takeBack undoes everything; a QEMU that has gone has nothing left to undo.
func (h *handover) takeBack(cause error) error {
	err := h.back.Run()
	if err == nil || errors.Is(err, ErrClosed) || errors.Is(cause, errNoReply) {
		return cause
	}
	return fmt.Errorf("%w (and taking it back failed: %w)", cause, err)
}

func (h *handover) opened(context.Context) error { return h.e.hit(failpoint.HandoverOpened) }

// sendFDs gives QEMU each fd under its name. Every getfd is confirmed before
// netdev_add names it: one that is missing there leaves a netdev that cannot be
// deleted.
func (h *handover) sendFDs(ctx context.Context) error {
	for _, part := range h.fds() {
		for i, fd := range part.fds {
			name := fdName(h.nic.ID, part.kind, i)
			h.back.Add(func() error { _, err := h.e.closeFD(h.undoCtx, name); return err })
			if err := h.e.SendFD(ctx, name, fd); err != nil {
				return err
			}
		}
	}
	if err := h.sweepMore(ctx); err != nil {
		return err
	}
	return h.e.hit(failpoint.HandoverGetfd)
}

// sweepMore closes what an attempt that was cut off, and had more queues, left
// beyond the names that this one took over: a queue that nobody reads loses
// every frame that the kernel hashes to it.
func (h *handover) sweepMore(ctx context.Context) error {
	if h.clean {
		return nil
	}
	n := len(h.set.Queues)
	closed, err := h.e.closeFD(ctx, fdName(h.nic.ID, queueFD, n))
	if err != nil || !closed {
		return err
	}
	if err := h.e.sweepFDs(ctx, h.nic.ID, queueFD, n+1); err != nil {
		return err
	}
	return h.e.sweepFDs(ctx, h.nic.ID, vhostFD, len(h.set.VHost))
}

type fdPart struct {
	kind string
	fds  []int
}

func (h *handover) fds() []fdPart {
	return []fdPart{{queueFD, h.set.Queues}, {vhostFD, h.set.VHost}}
}

func (h *handover) names(kind string, n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fdName(h.nic.ID, kind, i)
	}
	return strings.Join(names, ":")
}

func (h *handover) addNetdev(ctx context.Context) error {
	args := map[string]any{"type": "tap", "id": h.netdev, "fds": h.names(queueFD, len(h.set.Queues))}
	if n := len(h.set.VHost); n > 0 {
		args["vhostfds"] = h.names(vhostFD, n)
		args["vhostforce"] = true
	}
	h.back.Add(h.removeNetdev)
	if err := h.e.Do(ctx, "netdev_add", args, nil); err != nil {
		return err
	}
	return h.e.hit(failpoint.HandoverNetdev)
}

// removeNetdev deletes the netdev and looks whether it has gone.
func (h *handover) removeNetdev() error {
	if err := h.e.deleteNetdev(h.undoCtx, h.nic.ID, h.netdev); err != nil {
		return err
	}
	left, err := h.e.netdevs(h.undoCtx, h.nic.ID)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("netdev %s is still there", strings.Join(left, ", "))
	}
	return err
}

func (h *handover) addDevice(ctx context.Context) error {
	h.back.Add(func() error { return h.e.eject(h.undoCtx, h.nic.ID, h.e.since.Add(h.e.limits.Eject)) })
	if err := ctx.Err(); err != nil {
		return err
	}
	// A caller that gives up now would leave a NIC that only the guest can
	// let go of: see the command through.
	if err := h.e.Do(context.WithoutCancel(ctx), "device_add", h.deviceArgs(), nil); err != nil {
		return err
	}
	return h.e.hit(failpoint.HandoverDevice)
}

func (h *handover) deviceArgs() map[string]any {
	args := map[string]any{
		"driver": "virtio-net-pci", "id": deviceID(h.nic.ID), "netdev": h.netdev,
		"mac": h.nic.MAC.String(), "bus": h.place.Bus, "addr": h.place.Addr,
	}
	if n := len(h.set.Queues); n > 1 {
		args["mq"] = true
		args["vectors"] = strconv.Itoa(2*n + 2) // a pair for each queue, control, configuration
	}
	if h.nic.MTU > 0 {
		args["host_mtu"] = strconv.Itoa(h.nic.MTU)
	}
	return args
}

// Plugged says whether a NIC of that id is in the VM, and where.
func (q *QMP) Plugged(ctx context.Context, vm VM, nic NIC) (place Place, ok bool, err error) {
	l, err := q.enter(ctx, vm)
	if err != nil {
		return Place{}, false, notHere(vm.Socket, err)
	}
	defer l.close()
	place, ok, err = l.plugged(ctx, nic.ID)
	if err != nil {
		return Place{}, false, q.explain(l, err)
	}
	return place, ok, nil
}

func (e *engine) plugged(ctx context.Context, id string) (place Place, ok bool, err error) {
	if ok, err = e.hasDevice(ctx, deviceID(id)); err != nil || !ok {
		return Place{}, false, err
	}
	if place, err = e.already(ctx, id); err == nil {
		place.MAC, err = e.macOf(ctx, deviceID(id))
	}
	return place, true, err
}

// already is the place of a NIC that is plugged.
func (e *engine) already(ctx context.Context, id string) (Place, error) {
	place, err := e.where(ctx, deviceID(id))
	place.Already = true
	return place, err
}
