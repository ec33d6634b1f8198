package agenttest

import (
	"cmp"
	"context"
	"errors"
	"net"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/tapdev"
)

// Ensure implements agent.Devices.
func (f Devices) Ensure(_ context.Context, spec tapdev.Spec) (tapdev.Device, error) {
	var dev tapdev.Device
	err := f.W.do("Ensure", func() error {
		if d := f.W.here(spec.Ifname); d != nil {
			if d.VM != spec.VM || d.ID != spec.ID {
				return vmnetd.Errorf(vmnetd.ErrBusy, "the device %s belongs to %s/%s", d.Ifname, d.VM, d.ID)
			}
			d.MAC, d.MTU = spec.MAC, cmp.Or(spec.MTU, d.MTU)
			dev = d.Device
			return nil
		}
		for name, u := range f.W.uplinks {
			if u.index != spec.Lower {
				continue
			}
			if err := f.W.free(name, spec); err != nil {
				return err
			}
			mtu := spec.MTU
			if mtu == 0 {
				mtu = u.mtu
			}
			if spec.Mode.Info().Exclusive {
				u.mac = spec.MAC.String()
			}
			dev = tapdev.Device{VM: spec.VM, ID: spec.ID, Ifname: spec.Ifname, Ifindex: f.W.index(), Lower: u.index, Mode: spec.Mode, Kind: spec.Kind, MAC: spec.MAC, MTU: mtu, Queues: spec.Queues}
			f.W.devices[spec.Ifname], f.W.named[dev.Ifindex] = &device{Device: dev, uplink: name}, dev.Ifname
			f.W.linkChanged(dev.Ifindex)
			return nil
		}
		return vmnetd.Errorf(vmnetd.ErrBusy, "there is no device with ifindex %d", spec.Lower)
	})
	return dev, err
}

// free refuses what the kernel would.
func (w *World) free(uplinkName string, spec tapdev.Spec) error {
	for _, d := range w.devices {
		if d.uplink == uplinkName && (spec.Mode.Info().Exclusive || d.Mode.Info().Exclusive) {
			return vmnetd.Errorf(vmnetd.ErrBusy, "%s is taken by %s", uplinkName, d.Ifname)
		}
	}
	return nil
}

// Find implements agent.Devices.
func (f Devices) Find(_ context.Context, ifname string) (tapdev.Device, error) {
	var dev tapdev.Device
	err := f.W.do("Find", func() error {
		d := f.W.here(ifname)
		if ifname == "" {
			return errors.New("the kernel refuses to look for a device without a name")
		}
		if d == nil {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device %s", ifname)
		}
		dev = d.Device
		return nil
	})
	return dev, err
}

// Open implements agent.Devices. The set has no fds.
func (f Devices) Open(_ context.Context, dev tapdev.Device) (*queuefd.Set, error) {
	err := f.W.do("Open", func() error {
		if d := f.W.devices[dev.Ifname]; d == nil || d.Ifindex != dev.Ifindex {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device %s", dev.Ifname)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &queuefd.Set{VHostReason: "this host has no vhost-net"}, nil
}

// SetUp implements agent.Devices.
func (f Devices) SetUp(_ context.Context, dev tapdev.Device, up bool) error {
	return f.W.do("SetUp", func() error {
		d := f.W.devices[dev.Ifname]
		if d == nil || d.Ifindex != dev.Ifindex {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device %s", dev.Ifname)
		}
		for _, other := range f.W.devices {
			if up && other != d && other.Up && other.uplink == d.uplink && other.MAC.String() == d.MAC.String() {
				return vmnetd.Errorf(vmnetd.ErrBusy, "MAC %s is in use by %s", d.MAC, other.Ifname)
			}
		}
		if d.Up != up {
			d.Up = up
			f.W.linkChanged(d.Ifindex)
		}
		return nil
	})
}

// Remove implements agent.Devices.
func (f Devices) Remove(_ context.Context, devs ...tapdev.Device) error {
	return f.W.do("Remove", func() error {
		for _, dev := range devs {
			if d := f.W.devices[dev.Ifname]; d != nil && d.Ifindex == dev.Ifindex {
				delete(f.W.devices, dev.Ifname)
				f.W.linkChanged(d.Ifindex)
			}
		}
		return nil
	})
}

// RemoveLeft implements agent.Devices: here a namespace takes its devices along.
func (f Devices) RemoveLeft(context.Context, int, tapdev.Device) error {
	return f.W.do("RemoveLeft", func() error { return nil })
}

// RestoreMAC implements agent.Devices.
func (f Devices) RestoreMAC(_ context.Context, ifindex int, mac net.HardwareAddr) error {
	return f.W.do("RestoreMAC", func() error {
		for _, u := range f.W.uplinks {
			if u.index == ifindex {
				u.mac = mac.String()
				return nil
			}
		}
		return vmnetd.Errorf(vmnetd.ErrNotFound, "the device with index %d has gone", ifindex)
	})
}

// Ours implements agent.Devices.
func (f Devices) Ours(context.Context) ([]tapdev.Device, error) {
	var list []tapdev.Device
	err := f.W.do("Ours", func() error {
		for _, d := range f.W.devices {
			if d.home == "" {
				list = append(list, d.Device)
			}
		}
		return nil
	})
	return list, err
}

// Holders implements agent.Devices.
func (f Devices) Holders(_ context.Context, dev tapdev.Device) (pids []int, complete bool, err error) {
	err = f.W.do("Holders", func() error {
		pids = f.W.holders(dev.Ifindex)
		return nil
	})
	return pids, err == nil && !f.W.hidden(), err
}

// HoldersNamed implements agent.Devices.
func (f Devices) HoldersNamed(_ context.Context, ifname string) (pids []int, complete bool, err error) {
	err = f.W.do("HoldersNamed", func() error {
		if d := f.W.devices[ifname]; d != nil {
			pids = f.W.holders(d.Ifindex)
		}
		return nil
	})
	return pids, err == nil && !f.W.hidden(), err
}

// VHost implements agent.Devices.
func (Devices) VHost() (ok bool, reason string) { return false, "this host has no vhost-net" }

// Doctor implements agent.Devices.
func (Devices) Doctor(context.Context) []vmnetd.Check { return nil }

// SetFilter implements agent.Devices.
func (f Devices) SetFilter(_ context.Context, dev tapdev.Device, mac net.HardwareAddr, _ []net.HardwareAddr, _ bool) error {
	return f.W.do("SetFilter", func() error {
		d := f.W.devices[dev.Ifname]
		if d == nil {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "no device %s", dev.Ifname)
		}
		d.MAC = mac
		return nil
	})
}

// Move implements agent.Devices.
func (f Devices) Move(_ context.Context, dev tapdev.Device, to *netns.NS) error {
	return f.W.do("Move", func() error {
		d := f.W.here(dev.Ifname)
		if d == nil {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device %s", dev.Ifname)
		}
		for name, ns := range f.W.places {
			if ns == to {
				f.W.moveTo(d, name)
				return nil
			}
		}
		return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no such namespace")
	})
}

// Rename implements agent.Devices.
func (f Devices) Rename(_ context.Context, dev tapdev.Device, name string) error {
	return f.W.do("Rename", func() error {
		for is, d := range f.W.devices {
			if d.Ifindex == dev.Ifindex {
				delete(f.W.devices, is)
				d.Ifname, f.W.devices[name], f.W.named[d.Ifindex] = name, d, name
				f.W.linkChanged(d.Ifindex)
				return nil
			}
		}
		return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device with index %d", dev.Ifindex)
	})
}

// RenameDevice renames a device behind the agent's back.
func (w *World) RenameDevice(ifname, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.devices[ifname]
	delete(w.devices, ifname)
	d.Ifname, w.devices[to], w.named[d.Ifindex] = to, d, to
	w.linkChanged(d.Ifindex)
}

// Lacking implements agent.Devices.
func (Devices) Lacking(context.Context) map[vmnetd.Kind]string { return nil }

// moveTo puts a device into a namespace, where it gets another index. Queues that
// are open go on working.
func (w *World) moveTo(d *device, name string) {
	old := d.Ifindex
	d.home, d.Up, d.Ifindex = name, false, w.index()
	w.named[d.Ifindex] = d.Ifname
	for _, v := range w.vms {
		for id, n := range v.nics {
			if n.ifindex == old {
				n.ifindex = d.Ifindex
				v.nics[id] = n
			}
		}
	}
	for _, indexes := range w.procs {
		for i := range indexes {
			if indexes[i] == old {
				indexes[i] = d.Ifindex
			}
		}
	}
	w.linkChanged(old)
}

// here is a device in the host's own namespace.
func (w *World) here(ifname string) *device {
	if d := w.devices[ifname]; d != nil && d.home == "" {
		return d
	}
	return nil
}
