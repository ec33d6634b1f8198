package agenttest

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
)

// Configure implements agent.Hypervisor.
func (f Hypervisor) Configure(hypervisor.Config) error { return f.W.hooked("Configure") }

// Allowed implements agent.Hypervisor.
func (Hypervisor) Allowed(uid uint32, via string) error {
	if uid != 0 && via != "" && via != "qmp" {
		return vmnetd.Errorf(vmnetd.ErrDenied, "only root may name a socket")
	}
	return nil
}

// Find implements agent.Hypervisor.
func (f Hypervisor) Find(_ context.Context, name, via string) (hypervisor.VM, error) {
	var info hypervisor.VM
	err := f.W.do("VM", func() error {
		if path, ok := strings.CutPrefix(via, "netns:"); ok {
			if err := f.W.isNetns(path); err != nil {
				return err
			}
			info = hypervisor.VM{Name: name, Via: via, Netns: path, Running: true, Trusted: true, Instance: f.W.instanceOf(path)}
			return nil
		}
		v, err := f.W.vm(name)
		if err == nil {
			info = v.told()
		}
		return err
	})
	return info, err
}

// Ask implements agent.Hypervisor.
func (f Hypervisor) Ask(ctx context.Context, name, via string) (hypervisor.VM, error) {
	defer f.W.wait(name)()
	return f.Find(ctx, name, via)
}

func (w *World) vm(name string) (*vm, error) {
	v := w.vms[name]
	switch {
	case v == nil:
		return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "no VM %s", name)
	case v.busy:
		return nil, vmnetd.Errorf(vmnetd.ErrBusy, "the socket of %s is busy", name)
	}
	return v, nil
}

// run is the VM, if it is still the run that was found.
func (w *World) run(found hypervisor.VM) (*vm, error) {
	v, err := w.vm(found.Name)
	if err == nil && v.info.Instance != found.Instance {
		err = vmnetd.Errorf(vmnetd.ErrNotFound, "VM %s has ended", found.Name)
	}
	return v, err
}

// Plug implements agent.Hypervisor.
func (f Hypervisor) Plug(ctx context.Context, found hypervisor.VM, n hypervisor.NIC) (hypervisor.Place, error) {
	if found.Netns != "" {
		return hypervisor.Place{}, nil
	}
	defer f.W.wait(found.Name)()
	already := false
	err := f.W.do("Plug", func() error {
		v, err := f.W.run(found)
		if err == nil {
			_, already = v.nics[n.ID]
		}
		return err
	})
	if err != nil || already {
		return hypervisor.Place{Bus: "rp0", Already: already}, err
	}
	if found.Via != viaLibvirt || n.ByFD {
		set, err := n.Open(ctx)
		if err != nil {
			return hypervisor.Place{}, err
		}
		defer set.Close()
	}
	err = f.W.do("Plugging", func() error {
		v, err := f.W.run(found)
		if err != nil {
			return err
		}
		d := f.W.devices[n.Ifname]
		if d == nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "the device has gone")
		}
		v.nics[n.ID] = nic{ifname: d.Ifname, ifindex: d.Ifindex, linkUp: true}
		return nil
	})
	return hypervisor.Place{Bus: "rp0"}, err
}

// Plugged implements agent.Hypervisor.
func (f Hypervisor) Plugged(_ context.Context, found hypervisor.VM, n hypervisor.NIC) (place hypervisor.Place, ok bool, err error) {
	if found.Netns != "" {
		return hypervisor.Place{}, true, nil
	}
	defer f.W.wait(found.Name)()
	err = f.W.do("Plugged", func() error {
		v, err := f.W.run(found)
		if err == nil {
			_, ok = v.nics[n.ID]
		}
		return err
	})
	return hypervisor.Place{Bus: "rp0"}, ok, err
}

// Unplug implements agent.Hypervisor.
func (f Hypervisor) Unplug(_ context.Context, found hypervisor.VM, n hypervisor.NIC) error {
	defer f.W.wait(found.Name)()
	return f.W.do("Unplug", func() error {
		v := f.W.vms[found.Name]
		if v == nil || v.info.Instance != found.Instance {
			return nil
		}
		if v.busy {
			return vmnetd.Errorf(vmnetd.ErrBusy, "the socket of %s is busy", found.Name)
		}
		if _, plugged := v.nics[n.ID]; plugged && v.stuck {
			return hypervisor.ErrEjecting
		}
		delete(v.nics, n.ID)
		return nil
	})
}

// CutOff implements agent.Hypervisor.
func (f Hypervisor) CutOff(_ context.Context, found hypervisor.VM, n hypervisor.NIC) error {
	return f.W.do("CutOff", func() error {
		v, err := f.W.run(found)
		if err != nil {
			return err
		}
		plugged, ok := v.nics[n.ID]
		if !ok {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "%s has no NIC %s", found.Name, n.ID)
		}
		plugged.linkUp = false
		v.nics[n.ID] = plugged
		return nil
	})
}

// Run implements agent.Hypervisor.
func (f Hypervisor) Run(ctx context.Context, saw func(hypervisor.Sighting)) error {
	f.W.mu.Lock()
	f.W.onVM = append(f.W.onVM, saw)
	for _, v := range f.W.vms {
		f.W.sighted(v, true)
	}
	f.W.mu.Unlock()
	saw(hypervisor.Sighting{})
	<-ctx.Done()
	return nil
}

// Names implements agent.Hypervisor.
func (f Hypervisor) Names() []string {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	return slices.Sorted(maps.Keys(f.W.vms))
}

// Filter implements agent.Hypervisor.
func (f Hypervisor) Filter(_ context.Context, found hypervisor.VM, n hypervisor.NIC) (hypervisor.RxFilter, error) {
	var want hypervisor.RxFilter
	err := f.W.do("Filter", func() error {
		v, err := f.W.run(found)
		if err != nil {
			return err
		}
		want.MAC = n.MAC
		if mac := v.nics[n.ID].mac; mac != nil {
			want.MAC = mac
		}
		return nil
	})
	return want, err
}

// Doctor implements agent.Hypervisor.
func (Hypervisor) Doctor(context.Context) []vmnetd.Check { return nil }
