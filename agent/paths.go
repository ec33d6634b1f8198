package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/announce"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/uplink"
)

// paths is how each uplink reached the outside when it was last looked at. It
// is looked at by a goroutine of its own, which asks nobody but the mirror:
// guests are announced before anything slow is done about a change.
type paths struct {
	wake *wake

	mu        sync.Mutex
	known     map[string]uplink.Path // by the uplink's name
	announced map[string]vmnetd.Announcement
	silent    map[string]*time.Timer // uplinks that carry nothing: when their guests are told
}

// linkPatience is how long an uplink may be without carrier before guests whose
// network says link: follow see their link go down.
const linkPatience = 3 * time.Second

func newPaths() *paths {
	return &paths{wake: newWake(), known: map[string]uplink.Path{}, announced: map[string]vmnetd.Announcement{}, silent: map[string]*time.Timer{}}
}

// stop ends the timers.
func (p *paths) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.silent {
		t.Stop()
	}
}

// swap notes the path of an uplink and gives the one before.
func (p *paths) swap(name string, now uplink.Path) (was uplink.Path, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, known = p.known[name]
	p.known[name] = now
	return was, known
}

// last is what was announced last of an uplink, nil for nothing.
func (p *paths) last(name string) *vmnetd.Announcement {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done, ok := p.announced[name]; ok {
		return &done
	}
	return nil
}

// followPaths announces guests whenever the path of their uplink changes.
func (a *Agent) followPaths(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.paths.wake.bell:
			seen := time.Now()
			a.paths.wake.take()
			for name, index := range a.uplinkIndexes() {
				a.lookAtPath(name, index, seen)
			}
		}
	}
}

// uplinkIndexes is where the uplinks were when they were last looked at.
func (a *Agent) uplinkIndexes() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	indexes := make(map[string]int, len(a.uplinks))
	for name, u := range a.uplinks {
		indexes[name] = u.Ifindex
	}
	return indexes
}

func (a *Agent) lookAtPath(name string, index int, seen time.Time) {
	now := a.o.Provisioner.Path(index)
	if now.Unsure {
		return
	}
	was, known := a.paths.swap(name, now)
	if known && was.Same(now) {
		return
	}
	a.followLink(name, len(now.Egress) > 0)
	if len(now.Egress) == 0 {
		return
	}
	why := "recovery " + now.Text
	switch {
	case !known: // what happened while no daemon ran, nobody has announced
		why = "start " + now.Text
	case was.Text != "":
		why = fmt.Sprintf("failover %s -> %s", was.Text, now.Text)
	}
	a.o.Announcer.Announce(announce.Change{
		Key: name, Why: why, Seen: seen,
		Addresses: func() []announce.Address { return a.addressesOn(name) },
		Done:      func(done vmnetd.Announcement) { a.wasAnnounced(name, done) },
	})
}

// addressesOn is what stands on an uplink and on the VLANs over it.
func (a *Agent) addressesOn(name string) []announce.Address {
	var list []announce.Address
	for _, r := range a.store.on(name) {
		if r.speaks() {
			list = append(list, r.address())
		}
	}
	return list
}

// speaks says that a NIC's MAC is to be found here: of a guest that waits for its
// migration it is at home elsewhere.
func (r record) speaks() bool { return r.Phase == vmnetd.Attached && !r.Halted }

// address is what the switches, and where it does not go without saying the
// neighbours, are told about a NIC: only guests that share a MAC can change it
// without noticing. To a guest that still asks whether its address is anybody's, an
// advertisement of it would be the answer (net/ipv6/ndisc.c, ndisc_recv_na), and a
// bridge gives what this host sends to guests, too.
func (r record) address() announce.Address {
	mac, _ := r.mac() // a decision has one
	address := announce.Address{MAC: mac, Ifindex: r.Lower, Name: r.FullName()}
	if !r.Mode.Info().SharesMAC {
		return address
	}
	for _, p := range r.Terms.IPs {
		address.IPs = append(address.IPs, p.Addr())
	}
	for _, h := range r.Heard {
		if !h.asked(time.Now()) {
			address.IPs = append(address.IPs, h.IP)
		}
	}
	return address
}

// probing is how long a guest waits for another station to defend an address
// (RFC 5227 1.1, PROBE_MAX and ANNOUNCE_WAIT), and some time for it to come here.
const probing = 3 * time.Second

// asked says that the guest may still be asking whether the address is another's.
func (h heard) asked(now time.Time) bool {
	return (h.How == learn.ByDAD || h.How == learn.ByProbe) && now.Sub(h.At) < probing
}

// announceOne tells the switches of a NIC that has just come, or runs again.
func (a *Agent) announceOne(r record, why string) {
	a.o.Announcer.Announce(announce.Change{
		Key: r.FullName(), Why: why, Seen: time.Now(),
		Addresses: func() []announce.Address {
			if now, ok := a.store.get(r.key()); ok && now.speaks() {
				return []announce.Address{now.address()}
			}
			return nil
		},
	})
}

// quiet ends what is still to be announced of a NIC.
func (a *Agent) quiet(r record) {
	address := r.address()
	a.o.Announcer.Forget(r.FullName(), address.MAC)
	if !r.Mode.Info().SharesMAC { // others have it too
		a.o.Announcer.Forget(r.Uplink, address.MAC)
	}
}

func (a *Agent) wasAnnounced(name string, done vmnetd.Announcement) {
	if done.Of == 0 { // nobody was concerned
		return
	}
	a.paths.mu.Lock()
	a.paths.announced[name] = done
	a.paths.mu.Unlock()
	a.event(vmnetd.Event{Event: "failover", Uplink: name, Text: fmt.Sprintf("%s, %d of %d guests announced in %s", done.Why, done.Guests, done.Of, time.Duration(done.TookUs)*time.Microsecond)})
	a.wake.set(anyUplink)
}

// followLink has the guests that follow their uplink's link see it: down after
// a while without carrier, up at once.
func (a *Agent) followLink(name string, carries bool) {
	a.paths.mu.Lock()
	defer a.paths.mu.Unlock()
	if t := a.paths.silent[name]; t != nil {
		t.Stop()
		delete(a.paths.silent, name)
	}
	if carries {
		go a.setLinks(name, true)
		return
	}
	a.paths.silent[name] = time.AfterFunc(linkPatience, func() { a.setLinks(name, false) })
}

func (a *Agent) setLinks(name string, up bool) {
	for _, r := range a.store.on(name) {
		if r.Follow {
			a.turns.do(r.VM, func(ctx context.Context) { a.setLink(ctx, r.key(), up) })
		}
	}
}

// setLink is for a NIC that QEMU can be asked about; one by fd has nobody to ask.
func (a *Agent) setLink(ctx context.Context, k key, up bool) {
	r, ok := a.store.get(k)
	if !ok || r.Phase != vmnetd.Attached || r.byFD() || r.LinkDown == !up {
		return
	}
	vm, err := a.o.Hypervisor.Find(ctx, r.VM, r.Via)
	if err == nil {
		err = a.o.Hypervisor.SetLink(ctx, vm, r.nic(), up)
	}
	if err != nil {
		a.o.Log.Warn("cannot set the guest's link", "vm", r.VM, "id", r.ID, "up", up, "err", err)
		return
	}
	r.LinkDown = !up
	if err := a.store.put(r); err != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
	}
	a.changed(r)
}

// onVLAN is the device to stand on: the uplink's, or a VLAN's over it, which is made
// for the first that asks.
func (a *Agent) onVLAN(ctx context.Context, up rtnl.Link, vlan int) (rtnl.Link, error) {
	if vlan == 0 {
		return up, nil
	}
	a.vlans.Lock()
	defer a.vlans.Unlock()
	return a.o.Provisioner.EnsureVLAN(ctx, up, vlan)
}

// vlanDevice is the VLAN whose device the NIC stands on, 0 for none: on a bridge
// the VLAN is its port's.
func (r record) vlanDevice() int {
	if r.Mode.Info().Family == vmnetd.FamilyBridge {
		return 0
	}
	return r.VLAN
}

// releaseVLAN removes the VLAN device that a NIC has gone from, or a host link (no
// key), if nobody else stands on it.
func (a *Agent) releaseVLAN(ctx context.Context, uplink string, vlan int, gone key) error {
	if vlan == 0 {
		return nil
	}
	a.vlans.Lock()
	defer a.vlans.Unlock()
	for _, r := range a.store.on(uplink) {
		if r.key() != gone && r.vlanDevice() == vlan {
			return nil
		}
	}
	if a.links.uses(uplink, vlan) {
		return nil
	}
	index := a.uplinkIndexes()[uplink]
	if index == 0 {
		return nil // it went with its uplink
	}
	return a.o.Provisioner.ReleaseVLAN(ctx, index, vlan)
}
