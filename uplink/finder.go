package uplink

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Links is what a Finder asks the mirror of links for (rtnl.Watch).
type Links interface {
	ByIndex(index int) (rtnl.Link, bool)
	On(lower int) []rtnl.Link
	Ports(master int) []rtnl.Link
	All() []rtnl.Link
}

// Finder finds declared uplinks. Once found, an uplink is the device it was
// found as, by ifindex and permanent MAC, whatever it is renamed to.
type Finder struct {
	conn  *rtnl.Conn
	links Links

	mu    sync.Mutex
	bound map[string]binding // by the uplink's name
}

type binding struct {
	index int
	perm  net.HardwareAddr
	by    string // how it was declared: a changed declaration binds anew
}

// New makes a Finder that looks single devices up by conn and everything else
// in the mirror of the same namespace.
func New(conn *rtnl.Conn, links Links) *Finder {
	return &Finder{conn: conn, links: links, bound: map[string]binding{}}
}

// device is the uplink's device, without what stands on it, what it stands on, and
// addresses: of State no more than Present, Link and Problem. It is one question to
// the kernel. An uplink that is absent is no error; Problem says so.
func (f *Finder) device(ctx context.Context, spec Spec) (State, error) {
	link, err := f.find(ctx, spec)
	if errors.Is(err, vmnetd.ErrNotFound) {
		f.unbind(spec)
		return State{Spec: spec, Problem: err.Error()}, nil
	}
	if err != nil {
		return State{}, err
	}
	f.bind(spec, link)
	return State{Spec: spec, Present: true, Link: link, Problem: problem(spec, link)}, nil
}

// State is the uplink as it is now: two questions to the kernel, no list of
// all links. An uplink that is absent is no error; Problem says so.
func (f *Finder) State(ctx context.Context, spec Spec) (State, error) {
	s, err := f.device(ctx, spec)
	if err != nil || !s.Present {
		return s, err
	}
	link := s.Link
	s.Users, s.Filtering = f.links.On(link.Index), link.Kind == kindBridge && filters(link)
	for _, l := range s.Users {
		if l.VLANProto == "802.1Q" {
			s.VLANs = append(s.VLANs, OnVLAN{ID: l.VLAN, Link: l, Users: f.links.On(l.Index), Master: f.master(ctx, l)})
		}
	}
	s.Master = f.master(ctx, link)
	if s.Hosts, err = f.conn.Addrs(ctx, link.Index); err != nil {
		return State{}, err
	}
	if err := f.hostsOnVLANs(ctx, s.VLANs); err != nil {
		return State{}, err
	}
	s.BondMode = cmp.Or(f.rewriting(link, deepest), link.BondMode)
	s.Wireless = wireless(link.Name)
	return s, nil
}

// hostsOnVLANs adds the host's addresses, by one dump however many VLANs there are.
func (f *Finder) hostsOnVLANs(ctx context.Context, vlans []OnVLAN) error {
	if len(vlans) == 0 {
		return nil
	}
	all, err := f.conn.AddrsByLink(ctx)
	if err != nil {
		return err
	}
	for i := range vlans {
		vlans[i].Hosts = all[vlans[i].Link.Index]
	}
	return nil
}

// Link is the uplink's device as it is now, by one question where it was found
// before.
func (f *Finder) Link(ctx context.Context, spec Spec) (rtnl.Link, error) { return f.find(ctx, spec) }

// find is the device it was bound to, as long as that is there, otherwise the
// one that matches the declaration.
func (f *Finder) find(ctx context.Context, spec Spec) (rtnl.Link, error) {
	f.mu.Lock()
	b, ok := f.bound[spec.Name]
	f.mu.Unlock()
	if !ok || b.by != declared(spec) {
		return f.match(ctx, spec)
	}
	link, err := f.conn.LinkByIndex(ctx, b.index)
	if errors.Is(err, vmnetd.ErrNotFound) || err == nil && !bytes.Equal(link.PermMAC, b.perm) {
		return f.match(ctx, spec) // indexes come again
	}
	return link, err
}

// fits says whether a link is or may become the device of a declaration.
func (f *Finder) fits(spec Spec, l rtnl.Link) bool {
	f.mu.Lock()
	b, ok := f.bound[spec.Name]
	f.mu.Unlock()
	switch {
	case ok && b.index == l.Index:
		return true
	case spec.MAC != nil:
		return bytes.Equal(l.PermMAC, spec.MAC) || bytes.Equal(l.MAC, spec.MAC)
	case spec.Path != "":
		return idPath(l) == spec.Path
	}
	return named(l, deviceName(spec))
}

func (f *Finder) bind(spec Spec, link rtnl.Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bound[spec.Name] = binding{index: link.Index, perm: link.PermMAC, by: declared(spec)}
}

func (f *Finder) unbind(spec Spec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bound, spec.Name)
}

// master is the device that a link is a port of, zero when it is none: from the
// mirror, or, when the mirror has not heard of it yet, from the kernel.
func (f *Finder) master(ctx context.Context, port rtnl.Link) rtnl.Link {
	if port.Master == 0 {
		return rtnl.Link{}
	}
	if l, ok := f.links.ByIndex(port.Master); ok {
		return l
	}
	l, err := f.conn.LinkByIndex(ctx, port.Master)
	if err != nil {
		return rtnl.Link{Index: port.Master}
	}
	return l
}

// cutOffGuests is what no carrier means to guests.
const cutOffGuests = "guests on it reach neither the outside nor each other"

// problem is one sentence, or "" when the uplink can carry traffic under the
// name it was declared with.
func problem(spec Spec, link rtnl.Link) string {
	switch {
	case !link.Up:
		return fmt.Sprintf("%s is down: ip link set %s up", link.Name, link.Name)
	case !link.Carrier:
		return fmt.Sprintf("%s has no carrier: %s", link.Name, cutOffGuests)
	case byName(spec) && !named(link, deviceName(spec)):
		return fmt.Sprintf("%s was renamed to %s: it is used under its new name until vmnetd starts again", deviceName(spec), link.Name)
	case spec.MTU > 0 && link.MTU < spec.MTU:
		return fmt.Sprintf("the MTU of %s is %d, not %d as declared", link.Name, link.MTU, spec.MTU)
	}
	return ""
}
