package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/learn"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/room"
)

// ears are the guests that the learner listens to.
type ears struct {
	mu   sync.Mutex
	on   map[key]ear
	pace map[key]pace
}

// ear is what the learner was told of a guest: its device, and whose frames on it
// are the guest's.
type ear struct {
	ifindex int
	mac     string
}

// pace bounds what the news of one guest's addresses can cost: each that changes
// something is written down, settled and filtered.
type pace struct {
	left int
	at   time.Time
}

// newsAtOnce is how many of a guest's news are worked off at once; after them it is
// one a second.
const newsAtOnce = 32

func (e *ears) paces(k key, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, known := e.pace[k]
	if !known {
		p = pace{newsAtOnce, now}
	}
	if more := int(now.Sub(p.at) / time.Second); more > 0 {
		p.left, p.at = min(p.left+more, newsAtOnce), now
	}
	ok := p.left > 0
	if ok {
		p.left--
	}
	if e.pace == nil {
		e.pace = map[key]pace{}
	}
	e.pace[k] = p
	return ok
}

func (e *ears) hears(k key, want ear) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	on, ok := e.on[k]
	return ok && on == want
}

func (e *ears) set(k key, on ear) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.on == nil {
		e.on = map[key]ear{}
	}
	e.on[k] = on
}

func (e *ears) drop(k key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.on, k)
	delete(e.pace, k)
}

// listen has the learner hear a NIC whose addresses are learned.
func (a *Agent) listen(ctx context.Context, r record) {
	want := ear{r.Ifindex, cmp.Or(r.GuestMAC, r.MAC)}
	if !r.Terms.Learn || r.Phase != vmnetd.Attached || a.ears.hears(r.key(), want) {
		return
	}
	if err := a.listenTo(ctx, r); err != nil {
		a.o.Log.Warn("addresses are not learned", "vm", r.VM, "id", r.ID, "err", err)
		return
	}
	a.ears.set(r.key(), want)
}

func (a *Agent) listenTo(ctx context.Context, r record) error {
	mac, err := r.mac()
	if err != nil {
		return err
	}
	dev, err := a.dev(ctx, r)
	if err != nil {
		return err
	}
	return a.in(ctx, r, r.where(), false, func(p room.Place) error {
		fd, err := p.Packets(ctx, dev)
		if err != nil {
			return err
		}
		return a.o.Learner.Watch(learn.Spec{Key: r.FullName(), Fd: fd, Sends: r.Mode.Sends(r.Kind), Uplink: r.Lower, MAC: mac, Leases: r.leaseEnds()})
	})
}

// leases says whether a DHCP server gave the guest an address.
func (r record) leases(ip netip.Addr) bool {
	return slices.ContainsFunc(r.Heard, func(h heard) bool { return h.IP == ip && h.leased() })
}

// leaseEnds is the ends of what the guest has leased.
func (r record) leaseEnds() map[netip.Addr]time.Time {
	ends := map[netip.Addr]time.Time{}
	for _, h := range r.Heard {
		if h.leased() {
			ends[h.IP] = h.Until
		}
	}
	return ends
}

// deafen ends listening to a NIC, also one that rules have ended learning for.
func (a *Agent) deafen(r record) {
	a.o.Learner.Forget(r.FullName())
	a.ears.drop(r.key())
}

// heard takes what the learner tells to the VM's turn.
func (a *Agent) heard(e learn.Event) {
	vm, id, ok := vmnetd.SplitFullName(e.Key)
	if ok {
		a.turns.do(vm, func(ctx context.Context) { a.learned(ctx, key{vm, id}, e) })
	}
}

// learned brings a NIC's addresses to what its guest was heard to use. One that
// cannot be its own is told once and not taken.
func (a *Agent) learned(ctx context.Context, k key, e learn.Event) {
	r, ok := a.store.get(k)
	if !ok || !r.Terms.Learn {
		return
	}
	if e.Gone { // told once; what it ends was paced when it began
		a.hears(ctx, r, e)
		return
	}
	if r.Phase != vmnetd.Attached {
		return
	}
	if !a.ears.paces(k, time.Now()) {
		a.o.Log.Debug("more news of a guest's addresses than are worked off", "vm", r.VM, "id", r.ID, "ip", e.IP)
		return
	}
	why := a.notIts(ctx, r, e)
	if e.Defended {
		why = cmp.Or(why, "another station answers for it")
		e.Gone, e.Why = !r.leases(e.IP), why
	}
	if why != "" {
		r = a.collides(r, e, why)
	}
	if why == "" || e.Gone {
		a.hears(ctx, r, e)
	}
}

// hears takes an event that counts.
func (a *Agent) hears(ctx context.Context, r record, e learn.Event) {
	before := r.Heard
	r.Heard = hear(before, e, time.Now(), cmp.Or(r.Terms.MaxIPs, policy.DefaultMaxIPs))
	switch {
	case !slices.EqualFunc(before, r.Heard, heard.same):
		a.useAddresses(ctx, r, e)
	case !slices.EqualFunc(before, r.Heard, func(x, y heard) bool { return x.Until.Equal(y.Until) }):
		if err := a.store.put(r); err != nil { // a renewal, which the next start must know
			a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
		}
	default:
		a.store.note(r) // when it was heard last
	}
}

// useAddresses puts a NIC's addresses in force and writes them down.
func (a *Agent) useAddresses(ctx context.Context, r record, e learn.Event) {
	if r.settledFor(e) {
		r.Refused, r.RefusedIP = "", netip.Addr{}
	}
	r.showIPs()
	if err := a.store.put(r); err != nil {
		a.o.Log.Error("state file", "vm", r.VM, "id", r.ID, "err", err)
		return
	}
	if r.Phase != vmnetd.Attached { // whoever brings it there uses these
		return
	}
	dev, err := a.dev(ctx, r)
	if err == nil {
		r, dev, err = a.settle(ctx, r, dev)
	}
	if err == nil {
		_, err = a.guard(ctx, r, dev)
	}
	if err != nil {
		a.stuck(r, fmt.Errorf("cannot use its address %s: %w", e.IP, err))
		return
	}
	ev := vmnetd.Event{Event: "address", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: fmt.Sprintf("uses %s, learned from %s", e.IP, e.How)}
	if e.Gone {
		ev.Text = fmt.Sprintf("no longer uses %s: %s", e.IP, e.Why)
	}
	a.event(ev)
	a.changed(r)
	a.linkGuestsChanged(r)
}

// notIts says why an address that a guest claims cannot be its own, "" if it can.
// What a DHCP server gave to it is not another's that only claims it.
func (a *Agent) notIts(ctx context.Context, r record, e learn.Event) string {
	if why := a.notGiven(ctx, r, e.IP); why != "" {
		return why
	}
	if e.How == learn.ByLease && !r.leases(e.IP) {
		a.takeLease(ctx, r, e)
	}
	if holder := a.store.holderOf(e.IP, r.Uplink, r.VLAN, r.key()); holder != "" {
		return "it is " + holder + "'s"
	}
	return ""
}

// notGiven says why no guest may have an address that one claims, "" if it may.
func (a *Agent) notGiven(ctx context.Context, r record, ip netip.Addr) string {
	switch {
	case !r.Terms.gives(ip):
		return "its network does not give it"
	case a.isHosts(ctx, r, ip):
		return "it is this host's own"
	}
	return ""
}

// takeLease takes what a DHCP server gave to a guest away from those that only claim
// it. The server does not tell it again: where that takes too long, it is heard once
// more when it is done.
func (a *Agent) takeLease(ctx context.Context, r record, e learn.Event) {
	again := func() { a.turns.do(r.VM, func(ctx context.Context) { a.learned(ctx, r.key(), e) }) }
	claim := slices.DeleteFunc(a.store.claimants(e.IP, r.Uplink, r.VLAN), func(o record) bool { return o.leases(e.IP) })
	a.takeFrom(ctx, r, claim, learn.Event{IP: e.IP, Gone: true, Why: "a DHCP server gave it to " + r.FullName()}, again)
}

// isHosts says whether this host has an address on what a NIC stands on.
func (a *Agent) isHosts(ctx context.Context, r record, ip netip.Addr) bool {
	has := func(p netip.Prefix) bool { return p.Addr() == ip }
	for _, l := range a.links.all() {
		if l.Uplink == r.Uplink && l.VLAN == r.VLAN && slices.ContainsFunc(l.IPs, has) {
			return true
		}
	}
	spec, ok := a.specOf(r.Uplink)
	if !ok {
		return false
	}
	state, err := a.o.Uplinks.State(ctx, spec)
	if err != nil {
		return false
	}
	for _, v := range state.VLANs {
		if v.Link.Index == r.Lower {
			return slices.ContainsFunc(v.Hosts, has)
		}
	}
	return slices.ContainsFunc(state.Hosts, has)
}

// takeClaims takes addresses that a NIC was given away from guests that only claim
// them: what policy gives wins, and an ipvlan's lower device has each address once.
func (a *Agent) takeClaims(ctx context.Context, r record) {
	for _, p := range r.Terms.IPs {
		e := learn.Event{IP: p.Addr(), Gone: true, Why: "it was given to " + r.FullName()}
		a.takeFrom(ctx, r, a.store.claimants(e.IP, r.Uplink, r.VLAN), e, func() {})
	}
}

// takeFrom has others give up for a NIC what an event says. late is called when one of
// them has done so after this call ended.
func (a *Agent) takeFrom(ctx context.Context, r record, others []record, e learn.Event, late func()) {
	ctx, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	for _, other := range others {
		k := other.key()
		if k == r.key() {
			continue
		}
		if k.vm == r.VM {
			a.yield(ctx, k, e)
			continue
		}
		gone := make(chan struct{})
		if !a.turns.do(k.vm, func(turn context.Context) {
			a.yield(turn, k, e)
			if ctx.Err() != nil {
				late()
			}
			close(gone)
		}) {
			return
		}
		select {
		case <-gone:
		case <-ctx.Done(): // it may wait for this VM in turn
		}
	}
}

// yield has a NIC give up an address.
func (a *Agent) yield(ctx context.Context, k key, e learn.Event) {
	if r, ok := a.store.get(k); ok {
		a.hears(ctx, r, e)
	}
}

// claimPatience is how long a NIC waits for addresses that another one has to let
// go of.
const claimPatience = 2 * time.Second

// collides tells of an address that a guest wants and cannot have; it is the NIC's
// problem until the guest takes another one of that kind.
func (a *Agent) collides(r record, e learn.Event, why string) record {
	text := fmt.Sprintf("its guest wants %s, but %s", e.IP, why)
	if r.Mode.Info().SharesMAC {
		text += whyShared(e)
	}
	if r.Refused == text {
		return r
	}
	r.Refused, r.RefusedIP = text, e.IP
	a.store.note(r)
	a.event(vmnetd.Event{Event: "address-refused", VM: r.VM, ID: r.ID, Uplink: r.Uplink, Text: text})
	a.changed(r)
	return r
}

// whyShared says what guests of ipvtaps run into by having the MAC of their host:
// EUI-64 makes the same addresses of it for all of them (RFC 4291 2.5.1), and a DHCP
// server that is told no other identifier takes them for one client (RFC 2131 4.2).
func whyShared(e learn.Event) string {
	switch b := e.IP.As16(); {
	case e.IP.Is6() && (e.IP.IsLinkLocalUnicast() || b[11] == 0xff && b[12] == 0xfe):
		return "; guests of an ipvtap share the MAC of their host, so let the guest make its IPv6 addresses otherwise (Linux: sysctl net.ipv6.conf.IF.addr_gen_mode=3)"
	case slices.Contains([]learn.How{learn.ByRequest, learn.ByLease, learn.ByOffer}, e.How):
		return "; guests of an ipvtap share the MAC of their host, so let the guest send the DHCP server a client identifier of its own (udhcpc -x 0x3d:…, dhclient: send dhcp-client-identifier)"
	}
	return ""
}

// settledFor says that a guest that was refused an address has one of that kind now.
func (r record) settledFor(e learn.Event) bool {
	return r.Refused != "" && !e.Gone && r.RefusedIP.Is4() == e.IP.Is4() && r.RefusedIP.IsLinkLocalUnicast() == e.IP.IsLinkLocalUnicast()
}

// fakeGuard is how long an address that is full of claims keeps what it learned
// last: a guest that floods changes its own addresses at most so often.
const fakeGuard = time.Second

// hear is a list of addresses after an event. It has at most limit: then the one
// that was heard of longest ago, and has no lease, makes room.
func hear(list []heard, e learn.Event, now time.Time, limit int) []heard {
	at := slices.IndexFunc(list, func(h heard) bool { return h.IP == e.IP })
	next := heard{IP: e.IP, How: e.How, At: now, Until: e.Until}
	list = slices.Clone(list)
	switch {
	case e.Gone && at < 0:
		return list
	case e.Gone:
		return slices.Delete(list, at, at+1)
	case at >= 0:
		if list[at].leased() && !next.leased() { // a claim does not end a lease
			next.Until, next.How = list[at].Until, list[at].How
		}
		list[at] = next
		return list
	case len(list) >= limit:
		oldest, ok := replaceable(list, next)
		if !ok {
			return list
		}
		list = slices.Delete(list, oldest, oldest+1)
	}
	return append(list, next)
}

// same says that nothing follows from the difference.
func (h heard) same(o heard) bool {
	return h.IP == o.IP && h.leased() == o.leased()
}

// leased says that a DHCP server gave the address.
func (h heard) leased() bool { return h.How == learn.ByLease }

// replaceable is what makes room for another address; a lease need not wait for it.
func replaceable(list []heard, next heard) (oldest int, ok bool) {
	for i, h := range list {
		if !h.leased() && (!ok || h.At.Before(list[oldest].At)) {
			oldest, ok = i, true
		}
	}
	newest := slices.MaxFunc(list, func(x, y heard) int { return x.At.Compare(y.At) })
	return oldest, ok && (next.leased() || next.At.Sub(newest.At) >= fakeGuard)
}
