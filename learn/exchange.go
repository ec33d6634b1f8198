package learn

import (
	"net/netip"
	"slices"
	"time"
)

// exchangeFor is how long a server may take: clients ask again after 64 s at the
// latest (RFC 2131 4.1).
const exchangeFor = time.Minute

// exchangesMost is how many exchanges of a guest are followed at a time.
const exchangesMost = 16

// offersMost is how many offers of an exchange are followed.
const offersMost = 8

// exchange is what a DHCP client of a guest has sent, and to what it has no answer
// yet.
type exchange struct {
	guest    *guest
	xid      uint32
	client   hardware // all guests of an ipvtap uplink have this in common
	clientID string
	kind     byte // DHCPDISCOVER or DHCPREQUEST
	wants    netip.Addr
	server   netip.Addr // that was asked; invalid: any
	offered  []netip.Addr
	at       time.Time
	done     bool // answered by DHCPACK or DHCPNAK; what follows is a copy
}

// same says whether it is the client's exchange, taken further or sent again.
func (x *exchange) same(o exchange) bool {
	return x.xid == o.xid && x.client == o.client && x.clientID == o.clientID
}

// name tells clients of a guest apart.
func (x *exchange) name() string { return string(x.client[:]) + x.clientID }

// exchanges is those whose answers are heard in one place, by their xid.
type exchanges struct {
	byXID map[uint32][]*exchange
	early []early
}

// early is an answer to nobody yet. Those of an uplink come by another socket than
// what they answer, which may be read after them.
type early struct {
	d  dhcpMessage
	at time.Time
}

// Bounds of early answers: most on an uplink are for others.
const (
	earlyFor  = time.Second
	earlyMost = 64
)

func (x *exchanges) keep(d dhcpMessage, now time.Time) {
	if len(x.early) == earlyMost {
		x.early = slices.Delete(x.early, 0, 1)
	}
	x.early = append(x.early, early{d: d, at: now})
}

// kept is the early answers to one exchange, which are not kept any more.
func (x *exchanges) kept(one *exchange, now time.Time) (list []dhcpMessage) {
	x.early = slices.DeleteFunc(x.early, func(e early) bool {
		old := now.Sub(e.at) > earlyFor
		if old || x.match(e.d, now) != one {
			return old
		}
		list = append(list, e.d)
		return true
	})
	return list
}

func (x *exchanges) add(one *exchange) {
	if x.byXID == nil {
		x.byXID = map[uint32][]*exchange{}
	}
	x.byXID[one.xid] = append(x.byXID[one.xid], one)
}

func (x *exchanges) drop(one *exchange) {
	list := slices.DeleteFunc(x.byXID[one.xid], func(o *exchange) bool { return o == one })
	if len(list) == 0 {
		delete(x.byXID, one.xid)
		return
	}
	x.byXID[one.xid] = list
}

// match is the exchange that an answer is for; nil: of nobody here. Who has it
// first keeps it: a neighbour that has heard a request could send the very same. A
// server that sends the client's identifier back (RFC 6842) tells clients apart that
// have xid and MAC in common.
func (x *exchanges) match(d dhcpMessage, now time.Time) *exchange {
	for _, one := range x.byXID[d.xid] {
		if one.client == d.client && now.Sub(one.at) <= exchangeFor && (d.clientID == "" || d.clientID == one.clientID) {
			return one
		}
	}
	return nil
}

// hearsAnswersAt says where the answers to a new guest are heard.
func (g *guest) hearsAnswersAt(up *uplink) {
	g.uplink, g.at = up, &g.own
	if up != nil {
		g.at = &up.exchanges
	}
}

// addExchange notes what was sent, and has it answered by what was heard early.
func (g *guest) addExchange(x exchange, now time.Time) {
	x.guest = g
	one := g.note(x)
	for _, d := range g.at.kept(one, now) {
		g.answered(one, d, now)
	}
}

// note takes an exchange further, or is a new one; the guest's oldest makes room.
func (g *guest) note(x exchange) *exchange {
	for i, o := range g.current {
		if o.same(x) {
			x.offered = o.offered
			*o = x
			g.current = append(slices.Delete(g.current, i, i+1), o)
			return o
		}
	}
	if len(g.current) == exchangesMost {
		if !g.current[0].done {
			g.untaken(g.current[0], netip.Addr{}, x.at)
		}
		g.at.drop(g.current[0])
		g.current = slices.Delete(g.current, 0, 1)
	}
	g.current = append(g.current, &x)
	g.at.add(&x)
	return &x
}

func (g *guest) offered(x *exchange, ip netip.Addr, now time.Time) {
	if len(x.offered) == offersMost {
		return
	}
	x.offered = append(x.offered, ip)
	g.tell(Event{IP: ip, How: ByOffer}, now)
}

// untaken ends what an exchange came to, but for one address: what was offered or
// asked for, and no server has confirmed.
func (g *guest) untaken(x *exchange, taken netip.Addr, now time.Time) {
	begun := x.offered
	if x.kind == dhcpRequest {
		begun = append(begun, x.wants)
	}
	for _, ip := range begun {
		if _, leased := g.leases[ip]; usable(ip) && ip != taken && !leased {
			g.gone(ip, ByOffer, "its DHCP client has not taken it", now)
		}
	}
}

// beginsAnew ends what the earlier exchanges of a client came to that has none.
func (g *guest) beginsAnew(x exchange, now time.Time) {
	for _, o := range g.current {
		if !o.same(x) && o.name() == x.name() && !o.done {
			g.untaken(o, netip.Addr{}, now)
		}
	}
}

func (g *guest) dropExchanges() {
	for _, x := range g.current {
		g.at.drop(x)
	}
	g.current = nil
}

// sentDHCP is what a client of the guest sends.
func (g *guest) sentDHCP(d dhcpMessage, now time.Time) {
	x := exchange{xid: d.xid, client: d.client, clientID: d.clientID, kind: d.kind, wants: d.wants(), server: d.server, at: now}
	switch d.kind {
	case dhcpDiscover:
		g.beginsAnew(x, now)
		g.addExchange(x, now)
	case dhcpRequest:
		if usable(x.wants) {
			g.tell(Event{IP: x.wants, How: ByRequest}, now)
			g.addExchange(x, now)
		}
	case dhcpInform:
		if usable(d.ciaddr) {
			g.tell(Event{IP: d.ciaddr, How: ByRequest}, now)
		}
	case dhcpRelease:
		if usable(d.ciaddr) {
			g.gone(d.ciaddr, ByRequest, "the guest has released it", now)
		}
	case dhcpDecline:
		if usable(d.requested) {
			g.gone(d.requested, ByRequest, "the guest has declined it: another station has it", now)
		}
	}
}

// answered is what a server says to it.
func (g *guest) answered(x *exchange, d dhcpMessage, now time.Time) {
	switch {
	case x.done:
	case d.kind == dhcpOffer && x.kind == dhcpDiscover && usable(d.yiaddr):
		g.offered(x, d.yiaddr, now)
	case d.kind == dhcpAck && usable(d.yiaddr) && (!d.hasLease || d.lease > 0):
		x.done = true
		g.untaken(x, d.yiaddr, now)
		g.leased(d.yiaddr, lease{until: d.until(now), client: x.name()}, now)
	case d.kind == dhcpNak && x.kind == dhcpRequest && x.asked(d.server):
		x.done = true
		g.gone(x.wants, ByLease, "the DHCP server has refused it", now)
	}
}

// asked says whether a server was asked: one that was not may not refuse what
// another one has offered.
func (x *exchange) asked(server netip.Addr) bool {
	return !usable(x.server) || !usable(server) || x.server == server
}
