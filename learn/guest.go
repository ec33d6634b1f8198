package learn

import (
	"net/netip"
	"time"

	"github.com/vmnetd/vmnetd"
)

// Directions of a device (Spec.Sends).
const (
	egress  = "egress"
	ingress = "ingress"
)

// guest is what is known of one guest; all of it is bounded.
type guest struct {
	key           string
	mac           hardware
	sendsOutgoing bool
	ear           ear
	alarm         alarm
	sent, came    budget // of frames that are looked at

	uplink  *uplink // nil: none
	at      *exchanges
	own     exchanges // where the guest hears answers itself
	current []*exchange

	leases leases
	asking asking
	news   news
}

func newGuest(spec Spec) (*guest, error) {
	switch {
	case spec.Key == "":
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "a guest to be listened to has no name")
	case spec.Sends != egress && spec.Sends != ingress:
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%s: a guest sends by egress or ingress of its device, not by %q", spec.Key, spec.Sends)
	case len(spec.MAC) != len(hardware{}):
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%s: %q is no MAC of Ethernet", spec.Key, spec.MAC)
	}
	g := &guest{
		key: spec.Key, mac: mac(spec.MAC), sendsOutgoing: spec.Sends == egress,
		ear:  ear{fd: spec.Fd, name: spec.Key, all: budget{perSecond: guestReads}},
		sent: budget{perSecond: guestFrames}, came: budget{perSecond: guestFrames},
		asking: asking{}, leases: leases{},
	}
	for ip, until := range spec.Leases {
		g.leases[ip] = lease{until: until}
	}
	return g, nil
}

// inherit takes over what does not depend on the device.
func (g *guest) inherit(old *guest) {
	for ip, had := range old.leases {
		if _, known := g.leases[ip]; !known {
			g.leases[ip] = had
		}
	}
	for _, x := range old.current {
		g.addExchange(*x, x.at)
	}
}

// hear is one frame on the guest's device. Whose it is shows in its direction:
// guests of ipvtap share the MAC.
func (g *guest) hear(f frame, outgoing bool, now time.Time) {
	source, etherType, payload := f.split()
	if outgoing == g.sendsOutgoing {
		if source == g.mac && g.sent.spend(now) {
			g.hearSent(etherType, payload, now)
		}
		return
	}
	if g.came.spend(now) {
		g.hearCame(etherType, payload, now)
	}
}

func (g *guest) hearSent(etherType uint16, payload []byte, now time.Time) {
	switch etherType {
	case etherARP:
		if p, ok := parseARP(payload); ok && p.sender == g.mac {
			g.sentARP(p, now)
		}
	case etherIPv6:
		if p, ok := parseND(payload); ok && (!p.hasLink || p.link == g.mac) {
			g.sentND(p, now)
		}
	case etherIPv4:
		if d, ok := clientMessage(payload); ok && d.client == g.mac {
			g.sentDHCP(d, now)
		}
	}
}

func (g *guest) hearCame(etherType uint16, payload []byte, now time.Time) {
	switch etherType {
	case etherARP:
		if p, ok := parseARP(payload); ok {
			g.defended(p.senderIP, now)
		}
	case etherIPv6:
		if p, ok := parseND(payload); ok && p.kind == advertisement {
			g.defended(p.target, now)
		}
	case etherIPv4:
		if d, ok := serverAnswer(payload); ok {
			if x := g.at.match(d, now); x != nil && x.guest == g {
				g.answered(x, d, now)
			}
		}
	}
}

func (g *guest) sentARP(p arpPacket, now time.Time) {
	switch {
	case usable(p.senderIP):
		g.uses(p.senderIP, ByARP, now)
	case p.senderIP.IsUnspecified() && p.op == opRequest && usable(p.target):
		g.asks(p.target, ByProbe, now)
	}
}

func (g *guest) sentND(p ndPacket, now time.Time) {
	switch {
	case p.kind == advertisement:
		g.uses(p.target, ByND, now)
	case p.source.IsUnspecified():
		g.asks(p.target, ByDAD, now)
	default:
		g.uses(p.source, ByND, now)
	}
}

// uses is an address that the guest calls its own: it asks about it no longer, so
// that a frame of its own that comes back is no answer.
func (g *guest) uses(ip netip.Addr, how How, now time.Time) {
	if usable(ip) {
		delete(g.asking, ip)
		g.tell(Event{IP: ip, How: how}, now)
	}
}

// asks is an address of which the guest wants to know whether anybody has it.
func (g *guest) asks(ip netip.Addr, how How, now time.Time) {
	if usable(ip) {
		g.asking.add(ip, how, now)
		g.tell(Event{IP: ip, How: how}, now)
	}
}

func (g *guest) defended(ip netip.Addr, now time.Time) {
	if how, asked := g.asking.about(ip, now); asked {
		g.tell(Event{IP: ip, How: how, Defended: true}, now)
	}
}

func (g *guest) tell(e Event, now time.Time) {
	e.Key = g.key
	g.news.add(e, now)
}

func (g *guest) gone(ip netip.Addr, how How, why string, now time.Time) {
	if _, leased := g.leases[ip]; leased {
		how = ByLease
	}
	delete(g.leases, ip)
	g.tell(Event{IP: ip, How: how, Gone: true, Why: why}, now)
}

// next is when there is something to do without anything being heard; zero: never.
func (g *guest) next(now time.Time) time.Time { return sooner(g.leases.next(), g.news.next(now)) }

// sooner is the earlier of two times; a zero one is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
