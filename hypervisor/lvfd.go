package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// fdWay hands queue fds to QEMUs that libvirt runs, over libvirtd's own socket:
// the steps are those of a QMP socket, each as a monitor command. Its methods may
// be called by several goroutines; those for one domain take turns.
type fdWay struct {
	flight *fdFlight // of every connection that call uses
	limits Limits
	hit    func(failpoint.Point) error
	// call runs f on the connection to libvirtd, for limit at the most; f may go
	// on after that.
	call func(ctx context.Context, limit time.Duration, f func(*libvirt.Libvirt) error) error
	// domain is the domain of a VM; ErrOtherRun, vmnetd.ErrNotFound: that run of
	// it has ended.
	domain func(vm VM) (libvirt.Domain, error)

	turns turns // by uuid
	mu    sync.Mutex
	known map[libvirt.UUID]*known
}

// plug is Plug. A NIC.Addr is a PCI address as libvirt writes it (0000:05:00.0);
// the place taken is the last one that is free, since libvirt gives its own
// devices the first that it believes to be.
func (w *fdWay) plug(ctx context.Context, vm VM, nic NIC) (place Place, err error) {
	if err := checkNIC(nic); err != nil {
		return Place{}, err
	}
	if nic.Bus, nic.Addr, err = fromLibvirt(nic.Bus, nic.Addr); err != nil {
		return Place{}, err
	}
	err = w.with(ctx, vm, func(e *engine) (err error) { place, err = e.plug(ctx, nic); return err })
	return toLibvirt(place), err
}

// unplug is Unplug.
func (w *fdWay) unplug(ctx context.Context, vm VM, nic NIC) error {
	if err := vmnetd.CheckID(nic.ID); err != nil {
		return err
	}
	err := w.with(ctx, vm, func(e *engine) error { return e.unplug(ctx, nic.ID) })
	if errors.Is(err, ErrOtherRun) || errors.Is(err, vmnetd.ErrNotFound) {
		return nil // that run of the VM has ended, and its NICs with it
	}
	return err
}

// plugged is Plugged.
func (w *fdWay) plugged(ctx context.Context, vm VM, nic NIC) (place Place, ok bool, err error) {
	err = w.with(ctx, vm, func(e *engine) (err error) { place, ok, err = e.plugged(ctx, nic.ID); return err })
	return toLibvirt(place), ok, err
}

// cutOff is CutOff.
func (w *fdWay) cutOff(ctx context.Context, vm VM, nic NIC) error {
	return w.with(ctx, vm, func(e *engine) error { return e.cutOff(ctx, nic.ID) })
}

// setLink is SetLink.
func (w *fdWay) setLink(ctx context.Context, vm VM, nic NIC, up bool) error {
	return w.with(ctx, vm, func(e *engine) error { return e.setLink(ctx, nic.ID, up) })
}

// with runs f in the domain's turn and explains its error.
func (w *fdWay) with(ctx context.Context, vm VM, f func(*engine) error) error {
	dom, err := w.domain(vm)
	if err != nil {
		return err
	}
	giveBack, err := w.turns.take(ctx, string(dom.UUID[:]))
	if err != nil {
		return err
	}
	defer giveBack()
	err = f(&engine{
		monitor: &lvQEMU{way: w, domain: dom}, known: w.knows(dom.UUID, vm.Instance), vm: vm.Name,
		since: time.Now(), limits: w.limits, hit: w.hit, fromEnd: true,
	})
	if errors.Is(err, ErrClosed) {
		w.forget(dom.UUID)
	}
	return lvExplain(vm.Name, err)
}

func (w *fdWay) knows(uuid libvirt.UUID, instance string) *known {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.known[uuid]
	if k == nil || k.instance != instance || instance == "" {
		k = newKnown(instance)
		if w.known == nil {
			w.known = map[libvirt.UUID]*known{}
		}
		w.known[uuid] = k
	}
	return k
}

// forget drops what was known of a domain that has gone.
func (w *fdWay) forget(uuid libvirt.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.known, uuid)
}

// lvExplain turns what went wrong into what an operator reads.
func lvExplain(name string, err error) error {
	var told *vmnetd.Error
	name = vmnetd.Printable(name)
	switch {
	case err == nil, errors.As(err, &told):
		return err
	case errors.Is(err, ErrClosed):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s: %w", name, err)
	case errors.Is(err, errNoReply):
		return vmnetd.Errorf(vmnetd.ErrFailed, "VM %s: %w; QEMU or libvirtd is frozen or overloaded", name, err).
			WithNext("virsh domjobinfo " + name)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("VM %s: %w", name, err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "VM %s: %w", name, err)
}

// lvQEMU is the monitor of one domain's QEMU, which libvirt holds. It works on
// the connection to libvirtd that is there at each command, so that libvirtd may
// be started again in between.
type lvQEMU struct {
	way    *fdWay
	domain libvirt.Domain
}

// Do implements monitor.
func (m *lvQEMU) Do(ctx context.Context, command string, args, out any) error {
	return m.run(ctx, command, args, out, -1)
}

// SendFD implements monitor.
func (m *lvQEMU) SendFD(ctx context.Context, name string, fd int) error {
	return m.run(ctx, "getfd", map[string]string{"fdname": name}, nil, fd)
}

// awaitDeleted implements monitor. libvirt tells of a device's removal only where
// it knows the device, so the list of devices is looked at while a guest makes up
// its mind.
func (m *lvQEMU) awaitDeleted(ctx context.Context, device string) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		var props []property
		err := m.Do(ctx, "qom-list", map[string]string{"path": peripheral}, &props)
		if err != nil || !has(props, device) {
			return err
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

func (m *lvQEMU) run(ctx context.Context, command string, args, out any, fd int) error {
	msg := map[string]any{"execute": command}
	if args != nil {
		msg["arguments"] = args
	}
	text, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	if fd >= 0 {
		drop, err := m.way.flight.lend(commandKey(m.domain.UUID, string(text)), fd)
		if err != nil {
			return err
		}
		defer drop()
	}
	reply, err := m.ask(ctx, string(text), fd >= 0)
	if err == nil {
		err = readReply(reply, out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// ask runs a command and returns QEMU's reply as libvirt passes it on.
func (m *lvQEMU) ask(ctx context.Context, command string, withFD bool) (string, error) {
	replies := make(chan string, 1) // f may end after us
	err := m.way.call(ctx, m.way.limits.Command, func(lv *libvirt.Libvirt) error {
		ask := lv.QEMUDomainMonitorCommand
		if withFD {
			ask = lv.QEMUDomainMonitorCommandWithFiles
		}
		reply, err := ask(m.domain, command, 0)
		if isLv(err, libvirt.ErrOperationInvalid) {
			if active, asked := lv.DomainIsActive(m.domain); asked == nil && active == 0 {
				return fmt.Errorf("%w: %w", ErrClosed, err)
			}
		}
		replies <- reply
		return err
	})
	if err != nil {
		return "", m.asked(ctx, withFD, err)
	}
	return <-replies, nil
}

// asked says what became of a command that libvirt did not pass on.
func (m *lvQEMU) asked(ctx context.Context, withFD bool, err error) error {
	switch {
	case isLv(err, libvirt.ErrNoDomain):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case isLv(err, libvirt.ErrOperationTimeout):
		return vmnetd.Errorf(vmnetd.ErrBusy, "libvirt is busy with VM %s: %w", vmnetd.Printable(m.domain.Name), err).
			WithNext("virsh domjobinfo " + vmnetd.Printable(m.domain.Name))
	case withFD && (errors.Is(err, libvirt.ErrUnsupported) || errors.Is(err, vmnetd.ErrUnsupported)):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this libvirt is too old to pass queues on to QEMU: that came with libvirt 8.2").
			WithNext("leave --handover fd out: libvirt opens the device itself then")
	case ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)):
		return fmt.Errorf("%w through libvirt within %v: %w", errNoReply, m.way.limits.Command, err)
	}
	return err
}

// readReply reads a reply of QEMU into out (nil: not wanted).
func readReply(text string, out any) error {
	m, err := parseMessage([]byte(text))
	switch {
	case err != nil:
		return err
	case m.Error != nil:
		return m.Error
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(m.Return, out); err != nil {
		return fmt.Errorf("QEMU returned something else than expected: %w", err)
	}
	return nil
}

// toLibvirt writes a place as libvirt does where it can: the bus behind its
// controller number N is pci.N to QEMU (qemu_alias.c, qemuAssignDeviceControllerAlias).
func toLibvirt(p Place) Place {
	var bus, slot, function uint
	if _, err := fmt.Sscanf(p.Bus, "pci.%d", &bus); err != nil || p.Bus != fmt.Sprintf("pci.%d", bus) {
		return p
	}
	if n, _ := fmt.Sscanf(p.Addr, "0x%x.%d", &slot, &function); n == 0 {
		return p
	}
	return Place{Addr: fmt.Sprintf("0000:%02x:%02x.%d", bus, slot, function), Already: p.Already}
}

// fromLibvirt reads a place as libvirt writes it; a bus by name is QEMU's.
func fromLibvirt(bus, addr string) (qemuBus, qemuAddr string, err error) {
	if bus != "" || addr == "" {
		return bus, addr, nil
	}
	var domain, number, slot, function uint
	if n, err := fmt.Sscanf(addr, "%04x:%02x:%02x.%d", &domain, &number, &slot, &function); n != 4 || err != nil || domain != 0 || slot > 31 || function > 7 {
		return "", "", notPCI(addr)
	}
	return fmt.Sprintf("pci.%d", number), addrOf(int(slot<<3 | function)), nil
}

// filter is Filter for a device of that id in QEMU, libvirt's alias where libvirt
// plugged it.
func (w *fdWay) filter(ctx context.Context, vm VM, nic NIC, device string) (f RxFilter, err error) {
	err = w.with(ctx, vm, func(e *engine) (err error) { f, err = e.rxFilter(ctx, nic.ID, device); return err })
	return f, err
}
