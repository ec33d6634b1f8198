package agenttest

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/hostlink"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/room"
	"github.com/vmnetd/vmnetd/tapdev"
)

// OwnRoom is where devices of ipvtaps live.
const OwnRoom = "own"

type (
	// Rooms is agent.Rooms.
	Rooms struct{ W *World }
	// Filters is agent.Filters.
	Filters struct{ W *World }
	// Learner is agent.Learner.
	Learner struct{ W *World }
	// HostLinks is agent.HostLinks.
	HostLinks struct{ W *World }
)

// Here implements agent.Rooms.
func (f Rooms) Here() room.Place { return place{w: f.W} }

// Own implements agent.Rooms.
func (f Rooms) Own(_ context.Context, mayMake bool) (room.Place, error) {
	err := f.W.do("Own", func() error {
		if f.W.places[OwnRoom] != nil {
			return nil
		}
		if !mayMake {
			return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no namespace of vmnetd's")
		}
		f.W.places[OwnRoom] = &netns.NS{}
		return nil
	})
	return place{w: f.W, name: OwnRoom}, err
}

// At implements agent.Rooms.
func (f Rooms) At(_ context.Context, path string) (room.Place, error) {
	p := place{w: f.W, name: path}
	err := f.W.do("At", func() error {
		p.ns = f.W.places[path]
		return f.W.isNetns(path)
	})
	return p, err
}

// Run implements agent.Rooms.
func (f Rooms) Run(ctx context.Context, changed func(int)) error {
	f.W.mu.Lock()
	f.W.onRoom = append(f.W.onRoom, changed)
	f.W.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Doctor implements agent.Rooms.
func (Rooms) Doctor(context.Context) []vmnetd.Check { return nil }

// AddNetns makes a network namespace at a path; RemoveNetns ends it, with what is
// in it.
func (w *World) AddNetns(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places[path] = &netns.NS{}
}

// OwnNetns has a path be the host's own namespace's, as /proc/PID/ns/net is when a
// process of the host gets that number.
func (w *World) OwnNetns(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places[path] = hostNetns
}

var hostNetns = &netns.NS{}

// isNetns says that there is a namespace of others at a path.
func (w *World) isNetns(path string) error {
	switch w.places[path] {
	case nil:
		return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no network namespace %s", path)
	case hostNetns:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is this host's own network namespace", path)
	}
	return nil
}

// RemoveNetns is the end of a network namespace, which these VMs are told of.
func (w *World) RemoveNetns(path string, names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, w.places[path])
	delete(w.places, path)
	for name, d := range w.devices {
		if d.home == path {
			delete(w.devices, name)
			if key := vmnetd.FullName(d.VM, d.ID); path == OwnRoom && w.ears[key] != "" {
				w.keeps[key] = true
			}
		}
	}
	if path == OwnRoom {
		for _, changed := range w.onRoom {
			go changed(room.Ended)
		}
		return
	}
	for _, f := range w.onVM {
		for _, name := range names {
			go f(hypervisor.Sighting{Name: name, Via: "netns:" + path})
		}
	}
}

// Homes is where each device lives, by its first name; "" for the host's own
// namespace.
func (w *World) Homes() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	homes := map[string]string{}
	for name, d := range w.devices {
		homes[name] = d.home
	}
	return homes
}

// Settled is what a device was given in its namespace.
func (w *World) Settled(ifname string) tapdev.Settings {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.devices[ifname]; d != nil {
		return d.settings
	}
	return tapdev.Settings{}
}

// place is a network namespace of the world.
type place struct {
	w    *World
	name string
	ns   *netns.NS // as it was when the place was reached, of a path
}

// ID implements room.Place.
func (p place) ID() string { return p.w.idOf(p.name, p.ns) }

// idOf tells namespaces at one path apart, unless they are counted.
func (w *World) idOf(path string, ns *netns.NS) string {
	if w.counted {
		return path
	}
	return fmt.Sprintf("%s@%p", path, ns)
}

func (w *World) instanceOf(path string) string {
	number := "of the world"
	if w.counted {
		number = "0"
	}
	return "netns:" + w.idOf(path, w.places[path]) + ":" + number
}

// CountNetns has the kernel count the numbers of namespaces: the next one at a path
// has the number and the inode of the one before.
func (w *World) CountNetns() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counted = true
}

// NS implements room.Place.
func (p place) NS() *netns.NS {
	if p.ns != nil {
		return p.ns
	}
	return p.w.places[p.name]
}

// Close implements room.Place.
func (p place) Close() error { return nil }

func (p place) device(vm, id string) (*device, error) {
	for _, d := range p.w.devices {
		if d.home == p.name && d.VM == vm && d.ID == id {
			return d, nil
		}
	}
	return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device of %s in %s", vmnetd.FullName(vm, id), p.name)
}

// FindNIC implements room.Place.
func (p place) FindNIC(_ context.Context, vm, id string) (dev tapdev.Device, err error) {
	err = p.w.do("FindNIC", func() error {
		d, err := p.device(vm, id)
		if err == nil {
			dev = d.Device
		}
		return err
	})
	return dev, err
}

// Ours implements room.Place.
func (p place) Ours(context.Context) (list []tapdev.Device, err error) {
	err = p.w.do("Ours", func() error {
		for _, d := range p.w.devices {
			if d.home == p.name {
				listed := d.Device
				listed.IPs = nil
				list = append(list, listed)
			}
		}
		return nil
	})
	return list, err
}

// Settle implements room.Place.
func (p place) Settle(_ context.Context, dev tapdev.Device, s tapdev.Settings) (got tapdev.Device, err error) {
	err = p.w.do("Settle", func() error {
		d, err := p.device(dev.VM, dev.ID)
		if err != nil {
			return err
		}
		if p.name == OwnRoom && len(p.w.keeps) > 0 { // what is kept has the addresses still
			return vmnetd.Errorf(vmnetd.ErrBusy, "an address is on another device of the same uplink: %v", p.w.keeps)
		}
		d.settings, d.IPs, d.MTU = s, s.IPs, cmp.Or(s.MTU, d.MTU)
		got = d.Device
		return nil
	})
	return got, err
}

// SetUp implements room.Place.
func (p place) SetUp(_ context.Context, dev tapdev.Device, up bool) error {
	return p.w.do("SetUp", func() error {
		d, err := p.device(dev.VM, dev.ID)
		if err == nil {
			d.Up = up
		}
		return err
	})
}

// Remove implements room.Place.
func (p place) Remove(_ context.Context, devs ...tapdev.Device) error {
	return p.w.do("Remove", func() error {
		for _, dev := range devs {
			for name, d := range p.w.devices {
				if d.home == p.name && d.Ifindex == dev.Ifindex {
					delete(p.w.devices, name)
				}
			}
		}
		return nil
	})
}

// Guard implements room.Place.
func (p place) Guard(_ context.Context, spec filter.Spec) error {
	return p.w.do("Guard", func() error {
		p.w.guards[p.name+"/"+spec.Ifname] = spec
		return nil
	})
}

// GuardAll implements room.Place.
func (p place) GuardAll(_ context.Context, specs []filter.Spec) error {
	return p.w.do("GuardAll", func() error {
		for _, s := range specs {
			p.w.guards[p.name+"/"+s.Ifname] = s
		}
		return nil
	})
}

// Lost implements room.Place.
func (p place) Lost(_ context.Context, specs []filter.Spec) (lost []filter.Spec, err error) {
	err = p.w.do("Lost", func() error {
		for _, s := range specs {
			if _, holds := p.w.guards[p.name+"/"+s.Ifname]; !holds {
				lost = append(lost, s)
			}
		}
		return nil
	})
	return lost, err
}

// Holds implements room.Place.
func (p place) Holds(_ context.Context, spec filter.Spec) (holds bool, err error) {
	err = p.w.do("Holds", func() error {
		got, ok := p.w.guards[p.name+"/"+spec.Ifname]
		holds = ok && reflect.DeepEqual(got, spec)
		return nil
	})
	return holds, err
}

// Unguard implements room.Place.
func (p place) Unguard(_ context.Context, ifnames ...string) error {
	return p.w.do("Unguard", func() error {
		for _, name := range ifnames {
			delete(p.w.guards, p.name+"/"+name)
		}
		return nil
	})
}

// Counters implements room.Place.
func (p place) Counters(context.Context, string) ([]vmnetd.Counter, error) { return nil, nil }

// Answer implements room.Place.
func (p place) Answer(context.Context, tapdev.Device) error {
	return p.w.do("Answer", func() error { return nil })
}

// Packets implements room.Place.
func (p place) Packets(context.Context, tapdev.Device) (int, error) { return -1, nil }

// Guard is the filter of a device, where it has one.
func (w *World) Guard(place, ifname string) (filter.Spec, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.guards[place+"/"+ifname]
	return s, ok
}

// FlushFilters removes every filter, as `nft flush ruleset` does.
func (w *World) FlushFilters() {
	w.mu.Lock()
	clear(w.guards)
	lost := slices.Clone(w.onLost)
	w.mu.Unlock()
	for _, f := range lost {
		f()
	}
}

// Filtered implements agent.Filters.
func (f Filters) Filtered(context.Context) ([]string, error) { return nil, nil }

// Watch implements agent.Filters.
func (f Filters) Watch(ctx context.Context, lost func()) error {
	f.W.mu.Lock()
	f.W.onLost = append(f.W.onLost, lost)
	f.W.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Doctor implements agent.Filters.
func (Filters) Doctor(context.Context) []vmnetd.Check { return nil }

// Watch implements agent.Learner.
func (f Learner) Watch(spec learn.Spec) error {
	return f.W.do("Learn", func() error {
		f.W.ears[spec.Key] = spec.MAC.String()
		delete(f.W.keeps, spec.Key)
		return nil
	})
}

// Forget implements agent.Learner.
func (f Learner) Forget(key string) {
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	delete(f.W.ears, key)
	delete(f.W.keeps, key)
}

// Run implements agent.Learner. Who was listened to ends with it.
func (f Learner) Run(ctx context.Context, heard func(learn.Event)) error {
	f.W.mu.Lock()
	f.W.onHeard = append(f.W.onHeard, heard)
	f.W.mu.Unlock()
	<-ctx.Done()
	f.W.mu.Lock()
	defer f.W.mu.Unlock()
	f.W.onHeard = nil
	clear(f.W.ears)
	clear(f.W.keeps)
	return nil
}

// Hears is the MAC whose frames are listened to as a guest's, "" for a guest that is
// not listened to.
func (w *World) Hears(key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ears[key]
}

// Hear tells what a guest was heard to use.
func (w *World) Hear(e learn.Event) {
	w.mu.Lock()
	on := slices.Clone(w.onHeard)
	w.mu.Unlock()
	for _, f := range on {
		f(e)
	}
}

// Ensure implements agent.HostLinks.
func (f HostLinks) Ensure(_ context.Context, spec hostlink.Spec) (hostlink.Link, error) {
	l := hostlink.Link{Network: spec.Network, Ifname: hostlink.Ifname(spec.Network), Lower: spec.Lower, Kind: spec.Kind, Mode: spec.Mode, MAC: spec.MAC, IPs: spec.IPs, Up: true}
	return l, f.W.do("HostLink", func() error {
		if _, there := f.W.hostLinks[spec.Network]; !there {
			f.W.named[f.W.index()] = l.Ifname
		}
		f.W.hostLinks[spec.Network] = spec
		return nil
	})
}

// Remove implements agent.HostLinks.
func (f HostLinks) Remove(ctx context.Context, network string) error {
	return f.W.do("RemoveHostLink", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		delete(f.W.hostLinks, network)
		return nil
	})
}

// Ours implements agent.HostLinks.
func (f HostLinks) Ours(context.Context) ([]hostlink.Link, error) { return nil, nil }

// HostLinkGone takes a link away behind the agent's back, of which nobody is told.
func (w *World) HostLinkGone(network string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.hostLinks, network)
}

// HostLinks is the links that this host has, by network.
func (w *World) HostLinks() map[string]hostlink.Spec {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]hostlink.Spec{}
	for k, v := range w.hostLinks {
		all[k] = v
	}
	return all
}
