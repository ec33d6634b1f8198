package agenttest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/announce"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/uplink"
)

// Provisioner is agent.Provisioner of a host whose uplinks are somebody
// else's: they are described, and nothing can be applied.
type Provisioner struct{ W *World }

var errNothingOurs = vmnetd.Errorf(vmnetd.ErrUnsupported, "no uplink of this host is ours")

// Describe implements agent.Provisioner.
func (f Provisioner) Describe(_ context.Context, specs []uplink.Spec) []uplink.Described {
	all := make([]uplink.Described, len(specs))
	for i, spec := range specs {
		all[i].State, all[i].Err = f.describe(spec)
	}
	return all
}

// Concerns implements agent.Provisioner.
func (f Provisioner) Concerns(ifindex int, specs []uplink.Spec) bool {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	return slices.ContainsFunc(specs, func(s uplink.Spec) bool { return s.Name == f.W.named[ifindex] })
}

func (f Provisioner) describe(spec uplink.Spec) (vmnetd.UplinkState, error) {
	s := vmnetd.UplinkState{Name: spec.Name, Kind: spec.Kind, State: vmnetd.StateAbsent, Problem: "no device is named " + spec.Name}
	err := f.W.do("State", func() error {
		u := f.W.uplinks[spec.Name]
		if u == nil {
			return nil
		}
		s.Ifname, s.Ifindex, s.MAC, s.MTU = spec.Name, u.index, u.mac, u.mtu
		s.State, s.Problem = vmnetd.StateUp, ""
		if !u.carrier {
			s.State = vmnetd.StateNoCarrier
		}
		return nil
	})
	return s, err
}

// Path implements agent.Provisioner.
func (f Provisioner) Path(ifindex int) uplink.Path {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	name := f.W.named[ifindex]
	if u := f.W.uplinks[name]; u != nil && u.carrier {
		return uplink.Path{Text: name, Egress: []int{ifindex}}
	}
	return uplink.Path{}
}

// Waiting implements agent.Provisioner: nothing is ever applied.
func (Provisioner) Waiting() *vmnetd.Applied { return nil }

// TakenBack implements agent.Provisioner: nothing is ever applied.
func (Provisioner) TakenBack() string { return "" }

// OnEvent implements agent.Provisioner: nothing happens by itself.
func (Provisioner) OnEvent(func(vmnetd.Event)) {}

// Applied implements agent.Provisioner.
func (Provisioner) Applied() ([]uplink.Spec, time.Time, bool) { return nil, time.Time{}, false }

// Plan implements agent.Provisioner.
func (Provisioner) Plan(context.Context, []uplink.Spec, []string) (vmnetd.Plan, error) {
	return vmnetd.Plan{}, errNothingOurs
}

// Apply implements agent.Provisioner.
func (Provisioner) Apply(context.Context, []uplink.Spec, vmnetd.ApplyOptions) (vmnetd.Applied, error) {
	return vmnetd.Applied{}, errNothingOurs
}

// Confirm implements agent.Provisioner.
func (Provisioner) Confirm(context.Context, string) error { return errNothingOurs }

// Rollback implements agent.Provisioner.
func (Provisioner) Rollback(context.Context, string) error { return errNothingOurs }

// Move implements agent.Provisioner.
func (Provisioner) Move(context.Context, string, string) error { return errNothingOurs }

// SetDrain implements agent.Provisioner.
func (Provisioner) SetDrain(context.Context, string, string, bool) error { return errNothingOurs }

// SetHold implements agent.Provisioner.
func (Provisioner) SetHold(context.Context, string, time.Time) error { return errNothingOurs }

// Team implements agent.Provisioner.
func (Provisioner) Team(context.Context, uplink.Spec, vmnetd.TeamRequest) (string, error) {
	return "", errNothingOurs
}

// Convert implements agent.Provisioner.
func (Provisioner) Convert(context.Context, []uplink.Spec, string, string, bool) (vmnetd.Conversion, error) {
	return vmnetd.Conversion{}, errNothingOurs
}

// Repair implements agent.Provisioner.
func (f Provisioner) Repair(context.Context) error { return f.W.hooked("Repair") }

// Run implements agent.Provisioner.
func (Provisioner) Run(ctx context.Context, _ func(int)) error {
	<-ctx.Done()
	return nil
}

// EnsureVLAN implements agent.Provisioner.
func (f Provisioner) EnsureVLAN(_ context.Context, lower rtnl.Link, vlan int) (rtnl.Link, error) {
	var link rtnl.Link
	err := f.W.do("EnsureVLAN", func() error {
		name := fmt.Sprintf("%s.%d", lower.Name, vlan)
		u := f.W.uplinks[name]
		if u == nil {
			u = &uplinkDev{index: f.W.index(), mac: lower.MAC.String(), mtu: lower.MTU, carrier: lower.Carrier, over: lower.Index, vlan: vlan}
			f.W.uplinks[name], f.W.named[u.index] = u, name
			f.W.linkChanged(u.index)
		}
		link = f.W.uplinkLink(name, u)
		return nil
	})
	return link, err
}

// ReleaseVLAN implements agent.Provisioner.
func (f Provisioner) ReleaseVLAN(ctx context.Context, lower, vlan int) error {
	return f.W.do("ReleaseVLAN", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := fmt.Sprintf("%s.%d", f.W.named[lower], vlan)
		for _, d := range f.W.devices {
			if d.uplink == name {
				return nil
			}
		}
		delete(f.W.uplinks, name)
		return nil
	})
}

// VLANs is the VLAN devices that are there.
func (w *World) VLANs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var names []string
	for name, u := range w.uplinks {
		if u.over != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Doctor implements agent.Provisioner.
func (Provisioner) Doctor(context.Context) []vmnetd.Check { return nil }

// Announcer is agent.Announcer: it remembers what it was asked to announce.
type Announcer struct{ W *World }

// Announce implements agent.Announcer.
func (f Announcer) Announce(c announce.Change) {
	addresses := c.Addresses()
	f.W.mu.Lock()
	for _, a := range addresses {
		f.W.announced = append(f.W.announced, c.Key+" "+a.Name)
	}
	f.W.mu.Unlock()
	if c.Done != nil {
		c.Done(vmnetd.Announcement{At: c.Seen, Guests: len(addresses), Of: len(addresses), Why: c.Why})
	}
}

// Forget implements agent.Announcer.
func (f Announcer) Forget(key string, mac net.HardwareAddr) {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	f.W.announced = append(f.W.announced, "not "+key+" "+mac.String())
}

// Run implements agent.Announcer.
func (Announcer) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Announced is what was announced and forgotten, in order: "KEY VM/NIC", "not
// KEY MAC".
func (w *World) Announced() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.announced...)
}

// SetCarrier gives an uplink carrier or takes it away.
func (w *World) SetCarrier(name string, carrier bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.uplinks[name]
	u.carrier = carrier
	w.linkChanged(u.index)
}

// SetLink implements agent.Hypervisor.
func (f Hypervisor) SetLink(_ context.Context, found hypervisor.VM, n hypervisor.NIC, up bool) error {
	return f.W.do("SetLink", func() error {
		v, err := f.W.run(found)
		if err != nil {
			return err
		}
		plugged, ok := v.nics[n.ID]
		if !ok {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "%s has no NIC %s", found.Name, n.ID)
		}
		plugged.linkUp = up
		v.nics[n.ID] = plugged
		return nil
	})
}
