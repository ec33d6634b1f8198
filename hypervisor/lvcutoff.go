package hypervisor

import (
	"context"
	"encoding/json"
	"fmt"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
)

// CutOff has the guest see the link of a NIC go down whose device has gone, and
// keeps QEMU alive when the guest lets go of it later. vmnetd.ErrNotFound: there
// is no such NIC.
//
// For one queue the link is all. QEMU aborts where there are more (see QMP.CutOff)
// unless their netdev goes first, and libvirt has no call for that, only QEMU's
// monitor, at the price of the taint custom-monitor. A netdev of the same id that
// leads nowhere takes its place: without one libvirt's own netdev_del, after the
// guest's eject, would fail and leave the NIC in the XML (qemu_hotplug.c,
// qemuDomainRemoveNetDevice).
func (l *Libvirt) CutOff(ctx context.Context, vm VM, nic NIC) error {
	if nic.ByFD {
		return l.fd.cutOff(ctx, vm, nic)
	}
	d, err := l.enter(ctx, vm)
	if err != nil {
		return err
	}
	i, ok := d.byTarget(nic.Ifname)
	if !ok {
		return noSuchNIC(d, nic)
	}
	if err := l.setLink(ctx, d, nic, false); err != nil || i.Queues <= 1 {
		return err
	}
	l.warnTaint(d)
	netdev := "host" + i.Alias // qemu_command.c, qemuBuildHostNetProps
	err = l.monitor(ctx, d, "netdev_del", map[string]any{"id": netdev})
	if err != nil && !isClass(err, deviceNotFound) { // a call that was cut off may have deleted it
		return err
	}
	return l.monitor(ctx, d, "netdev_add", map[string]any{"type": "hubport", "id": netdev, "hubid": lvNowhere(i.Addr)})
}

// lvNowhere is a hub of that NIC alone.
func lvNowhere(addr string) int {
	var domain, bus, slot, function int
	_, _ = fmt.Sscanf(addr, "%x:%x:%x.%x", &domain, &bus, &slot, &function)
	return 1<<24 + bus<<8 + slot<<3 + function
}

// warnTaint says once a run what a command to the monitor costs.
func (l *Libvirt) warnTaint(d lvDomain) {
	l.mu.Lock()
	said := l.warned[d.instance()]
	l.warned[d.instance()] = true
	l.mu.Unlock()
	if !said {
		l.log.Warn("libvirt marks this VM as tainted (custom-monitor) from now on: its NIC with several queues lost its device, and QEMU would abort at the NIC's unplug", "vm", d.name)
	}
}

// monitor runs a QMP command through libvirt, which taints the domain.
func (l *Libvirt) monitor(ctx context.Context, d lvDomain, command string, args map[string]any) error {
	text, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
	if err != nil {
		return err
	}
	var answer string
	err = l.change(ctx, d.uuid, func(lv *libvirt.Libvirt) (err error) {
		answer, err = lv.QEMUDomainMonitorCommand(d.ref(), string(text), 0)
		return err
	})
	if err != nil {
		return lvRefused(d.name, "pass "+command+" on to QEMU of VM "+vmnetd.Printable(d.name), err)
	}
	var reply struct {
		Error *Error `json:"error"`
	}
	if err := json.Unmarshal([]byte(answer), &reply); err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "QEMU of VM %s answered %s with something else: %w", vmnetd.Printable(d.name), command, err)
	}
	if reply.Error != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "QEMU of VM %s refused %s: %w", vmnetd.Printable(d.name), command, reply.Error)
	}
	return nil
}
