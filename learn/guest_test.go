package learn

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var began = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// after is a time of the tests.
func after(d time.Duration) time.Time { return began.Add(d) }

func testGuest(t testing.TB) *guest {
	t.Helper()
	g, err := newGuest(Spec{Key: "vm/nic", Sends: egress, MAC: guestMAC})
	if err != nil {
		t.Fatal(err)
	}
	g.hearsAnswersAt(nil)
	return g
}

// line is an event in short.
func line(e Event) string {
	s := fmt.Sprintf("%s by %s", e.IP, e.How)
	if !e.Until.IsZero() {
		s += " until " + e.Until.Sub(began).String()
	}
	if e.Gone {
		s += " gone: " + e.Why
	}
	if e.Defended {
		s += " defended"
	}
	return s
}

// hears has a guest hear frames, and is what it tells of each, in short.
type hears struct {
	at   time.Duration
	came bool // for the guest; else by it
	b    []byte
	want string // joined by "; "
}

func (h hears) check(t *testing.T, g *guest) {
	t.Helper()
	g.hear(h.b, !h.came, after(h.at))
	h.took(t, g)
}

// took is what there is to tell at that time.
func (h hears) took(t *testing.T, g *guest) {
	t.Helper()
	var got []string
	for _, e := range g.news.take(after(h.at)) {
		got = append(got, line(e))
	}
	if s := strings.Join(got, "; "); s != h.want {
		t.Errorf("after %v told %q, want %q", h.at, s, h.want)
	}
}

func TestEveryWayToUseAnAddressIsLearned(t *testing.T) {
	a, b, v6, ll := ip("192.0.2.7"), ip("192.0.2.8"), ip("2001:db8::7"), ip("fe80::7")
	c := client{mac: guestMAC, xid: 7}
	for name, h := range map[string]hears{
		"ARP request":     {b: arp(opRequest, guestMAC, a, b), want: "192.0.2.7 by ARP"},
		"ARP reply":       {b: arp(opReply, guestMAC, a, b), want: "192.0.2.7 by ARP"},
		"gratuitous ARP":  {b: arp(opRequest, guestMAC, a, a), want: "192.0.2.7 by ARP"},
		"ARP probe":       {b: arp(opRequest, guestMAC, noIP, a), want: "192.0.2.7 by ARP probe"},
		"DAD":             {b: dad(guestMAC, v6), want: "2001:db8::7 by DAD"},
		"NA":              {b: nd(advertisement, guestMAC, ll, ip("ff02::1"), v6, guestMAC), want: "2001:db8::7 by ND"},
		"NS":              {b: nd(solicitation, guestMAC, ll, solicitedNode(v6), v6, guestMAC), want: "fe80::7 by ND"},
		"REQUEST":         {b: c.sends(dhcpRequest, noIP, optionIP(optRequested, a)), want: "192.0.2.7 by DHCP request"},
		"REQUEST, renews": {b: c.sends(dhcpRequest, a), want: "192.0.2.7 by DHCP request"},
		"INFORM":          {b: c.sends(dhcpInform, a), want: "192.0.2.7 by DHCP request"},
		"RELEASE":         {b: c.sends(dhcpRelease, a), want: "192.0.2.7 by DHCP request gone: the guest has released it"},
		"DECLINE":         {b: c.sends(dhcpDecline, noIP, optionIP(optRequested, a)), want: "192.0.2.7 by DHCP request gone: the guest has declined it: another station has it"},

		"DISCOVER's wish":           {b: c.sends(dhcpDiscover, noIP, optionIP(optRequested, a))},
		"a reply without a sender":  {b: arp(opReply, guestMAC, noIP, a)},
		"a broadcast address":       {b: arp(opRequest, guestMAC, broadcast, a)},
		"another one's source MAC":  {b: arp(opRequest, otherMAC, a, b)},
		"another one's ARP sender":  {b: ethernet(everyone, guestMAC, etherARP, arp(opRequest, otherMAC, a, b)[etherHeader:])},
		"another one's link option": {b: nd(advertisement, guestMAC, ll, ip("ff02::1"), v6, otherMAC)},
		"another one's chaddr":      {b: ethernet(everyone, guestMAC, etherIPv4, client{mac: otherMAC}.sends(dhcpRequest, a)[etherHeader:])},
		"a REQUEST for nothing":     {b: c.sends(dhcpRequest, noIP)},
		"a REQUEST for a group":     {b: c.sends(dhcpRequest, noIP, optionIP(optRequested, ip("224.0.0.1")))},
		"ARP that comes":            {came: true, b: arp(opRequest, guestMAC, a, b)},
		"NA that comes":             {came: true, b: nd(advertisement, guestMAC, ll, ip("ff02::1"), v6, guestMAC)},
		"REQUEST that comes":        {came: true, b: c.sends(dhcpRequest, a)},
		"half an Ethernet header":   {b: guestMAC},
	} {
		t.Run(name, func(t *testing.T) { h.check(t, testGuest(t)) })
	}
}

func TestAnExchangeOfDHCPIsFollowed(t *testing.T) {
	a, server, rogue := ip("192.0.2.7"), optionIP(optServer, ip("192.0.2.1")), optionIP(optServer, ip("192.0.2.66"))
	c, stranger := client{mac: guestMAC, xid: 7, id: "\x01abc"}, client{mac: guestMAC, xid: 8, id: "\x01abc"}
	cousin := client{mac: guestMAC, xid: 7, id: "\x01def"} // another guest with the uplink's MAC
	request := c.sends(dhcpRequest, noIP, optionIP(optRequested, a), server)
	g := testGuest(t)
	for _, h := range []hears{
		{at: 0, came: true, b: c.gets(dhcpOffer, a)}, // nobody has asked
		{at: 1, b: c.sends(dhcpDiscover, noIP)},
		{at: 2, came: true, b: stranger.gets(dhcpOffer, a)},
		{at: 3, came: true, b: cousin.gets(dhcpOffer, a)},
		{at: 4, came: true, b: c.gets(dhcpOffer, noIP)},
		{at: 5, came: true, b: c.gets(dhcpOffer, a, leaseTime(60)), want: "192.0.2.7 by DHCP offer"},
		{at: 6, came: true, b: c.gets(dhcpOffer, a, leaseTime(60))},
		{at: 7, came: true, b: client{mac: guestMAC, xid: 7}.gets(dhcpOffer, ip("192.0.2.8")), want: "192.0.2.8 by DHCP offer"}, // of a server that sends no identifier back
		{at: 8, b: request, want: "192.0.2.7 by DHCP request"},
		{at: 9, came: true, b: c.gets(dhcpNak, noIP, rogue)}, // was not asked
		{at: 10, came: true, b: c.gets(dhcpOffer, ip("192.0.2.9"))},
		{at: 11, came: true, b: c.gets(dhcpAck, a, leaseTime(0), server)},
		{at: 12, came: true, b: c.gets(dhcpAck, a, leaseTime(60), server), want: "192.0.2.8 by DHCP offer gone: its DHCP client has not taken it; 192.0.2.7 by DHCP lease until 1m0.000000012s"},
		{at: time.Second, came: true, b: c.gets(dhcpAck, a, leaseTime(60), server)}, // the same one once more
		{at: time.Second, came: true, b: c.gets(dhcpNak, noIP, server)},
		{at: 30 * time.Second, b: c.sends(dhcpRequest, a)}, // renews; the request was told
		{at: 30 * time.Second, came: true, b: c.gets(dhcpAck, a, leaseTime(60)), want: "192.0.2.7 by DHCP lease until 1m30s"},
	} {
		h.check(t, g)
	}
	if at := g.next(after(31 * time.Second)); !at.Equal(after(90 * time.Second)) {
		t.Errorf("the next thing to do is at %v", at)
	}
	g.endLeases(after(89 * time.Second))
	hears{at: 89 * time.Second}.took(t, g)
	g.endLeases(after(90 * time.Second))
	hears{at: 90 * time.Second, want: "192.0.2.7 by DHCP lease gone: its lease has ended"}.took(t, g)
	if at := g.next(after(time.Hour)); !at.IsZero() {
		t.Errorf("there is something to do at %v", at)
	}
}

func TestARefusedAddressIsGone(t *testing.T) {
	a := ip("192.0.2.7")
	c := client{mac: guestMAC, xid: 7}
	g := testGuest(t)
	for _, h := range []hears{
		{at: 1, b: c.sends(dhcpRequest, noIP, optionIP(optRequested, a)), want: "192.0.2.7 by DHCP request"},
		{at: 2, came: true, b: c.gets(dhcpNak, noIP, optionIP(optServer, ip("192.0.2.1"))), want: "192.0.2.7 by DHCP lease gone: the DHCP server has refused it"},
		{at: 3, came: true, b: c.gets(dhcpAck, a, leaseTime(60))}, // the client has turned away
		{at: 4, b: c.sends(dhcpRequest, noIP, optionIP(optRequested, a)), want: "192.0.2.7 by DHCP request"},
	} {
		h.check(t, g)
	}
}

func TestWhatAClientDoesNotTakeIsGone(t *testing.T) {
	a, b := ip("192.0.2.7"), ip("192.0.2.8")
	c, again := client{mac: guestMAC, xid: 7}, client{mac: guestMAC, xid: 8}
	other := client{mac: guestMAC, xid: 9, id: "firmware"}
	g := testGuest(t)
	for _, h := range []hears{
		{at: 1, b: c.sends(dhcpDiscover, noIP)},
		{at: 2, came: true, b: c.gets(dhcpOffer, a), want: "192.0.2.7 by DHCP offer"},
		{at: 3, b: other.sends(dhcpDiscover, noIP)}, // another client of the guest
		{at: 4, b: again.sends(dhcpDiscover, noIP), want: "192.0.2.7 by DHCP offer gone: its DHCP client has not taken it"},
		{at: 5, b: again.sends(dhcpRequest, noIP, optionIP(optRequested, b)), want: "192.0.2.8 by DHCP request"},
		{at: 6, came: true, b: again.gets(dhcpAck, b, leaseTime(60)), want: "192.0.2.8 by DHCP lease until 1m0.000000006s"},
		{at: 7, b: c.sends(dhcpDiscover, noIP)}, // it has a lease
		{at: 8, b: other.sends(dhcpDiscover, noIP, optionIP(optRequested, ip("192.0.2.9")))},
		{at: 9, b: client{mac: guestMAC, xid: 10, id: "firmware"}.sends(dhcpDiscover, noIP, optionIP(optRequested, ip("192.0.2.9")))}, // what it only wishes for was never told
	} {
		h.check(t, g)
	}
}

func TestAnAnswerThatTakesTooLongIsNone(t *testing.T) {
	c := client{mac: guestMAC, xid: 7}
	g := testGuest(t)
	hears{b: c.sends(dhcpDiscover, noIP)}.check(t, g)
	hears{at: exchangeFor + 1, came: true, b: c.gets(dhcpOffer, ip("192.0.2.7"))}.check(t, g)
	hears{at: exchangeFor + 2, b: c.sends(dhcpDiscover, noIP)}.check(t, g)
	hears{at: exchangeFor + 3, came: true, b: c.gets(dhcpOffer, ip("192.0.2.7")), want: "192.0.2.7 by DHCP offer"}.check(t, g)
}

func TestAnAnswerThatIsHeardBeforeTheQuestionCounts(t *testing.T) {
	c, other := client{mac: guestMAC, xid: 7}, client{mac: guestMAC, xid: 8}
	g, up := testGuest(t), &uplink{}
	g.hearsAnswersAt(up)
	keep := func(at time.Duration, c client, kind byte, a string) {
		d, _ := serverAnswer(c.gets(kind, ip(a))[etherHeader:])
		up.exchanges.keep(d, after(at))
	}
	for i := range 2 * earlyMost {
		keep(0, client{mac: guestMAC, xid: uint32(100 + i)}, dhcpOffer, "192.0.2.2")
	}
	keep(0, c, dhcpOffer, "192.0.2.1") // too early
	if n := len(up.exchanges.early); n != earlyMost {
		t.Errorf("%d are kept", n)
	}
	keep(earlyFor, c, dhcpOffer, "192.0.2.7")
	keep(earlyFor, other, dhcpOffer, "192.0.2.8")
	hears{at: earlyFor + 1, b: c.sends(dhcpDiscover, noIP), want: "192.0.2.7 by DHCP offer"}.check(t, g)
	keep(earlyFor+1, c, dhcpAck, "192.0.2.7")
	hears{at: earlyFor + 1, b: c.sends(dhcpRequest, ip("192.0.2.7")), want: "192.0.2.7 by DHCP request; 192.0.2.7 by DHCP lease"}.check(t, g)
	if n := len(up.exchanges.early); n != 1 {
		t.Errorf("%d are kept", n)
	}
}

func TestAClientHasOneAddress(t *testing.T) {
	c, other := client{mac: guestMAC, xid: 7, id: "os"}, client{mac: guestMAC, xid: 8, id: "firmware"}
	g := testGuest(t)
	lease := func(at time.Duration, c client, a, want string) {
		t.Helper()
		g.hear(c.sends(dhcpRequest, noIP, optionIP(optRequested, ip(a))), true, after(at))
		hears{at: at, came: true, b: c.gets(dhcpAck, ip(a), leaseTime(forever)), want: a + " by DHCP request; " + want}.check(t, g)
	}
	lease(0, other, "192.0.2.6", "192.0.2.6 by DHCP lease")
	lease(1, c, "192.0.2.7", "192.0.2.7 by DHCP lease")
	lease(2, c, "192.0.2.8", "192.0.2.7 by DHCP lease gone: its client has leased 192.0.2.8 instead; 192.0.2.8 by DHCP lease")
}

func TestAnswersToAQuestionAreTold(t *testing.T) {
	a, b, v6, ll := ip("192.0.2.7"), ip("192.0.2.8"), ip("2001:db8::7"), ip("fe80::9")
	reply := arp(opReply, guestMAC, a, noIP) // an ipvtap's neighbour has the guest's MAC
	advert := nd(advertisement, guestMAC, ll, ip("ff02::1"), v6, guestMAC)
	g := testGuest(t)
	for _, h := range []hears{
		{came: true, b: reply}, {came: true, b: advert},
		{at: 1, b: arp(opRequest, guestMAC, noIP, a), want: "192.0.2.7 by ARP probe"},
		{at: 2, came: true, b: arp(opReply, otherMAC, b, noIP)},
		{at: 3, came: true, b: reply, want: "192.0.2.7 by ARP probe defended"},
		{at: 4, came: true, b: reply},
		{at: 5, b: dad(guestMAC, v6), want: "2001:db8::7 by DAD"},
		{at: 5 + askingFor, came: true, b: advert, want: "2001:db8::7 by DAD defended"},
	} {
		h.check(t, g)
	}
	g = testGuest(t)
	for _, h := range []hears{
		{at: 1, b: arp(opRequest, guestMAC, noIP, a), want: "192.0.2.7 by ARP probe"},
		{at: 2 + askingFor, came: true, b: reply}, // too late
		{at: 3 + askingFor, b: dad(guestMAC, v6), want: "2001:db8::7 by DAD"},
		{at: 4 + askingFor, b: advert, want: "2001:db8::7 by ND"}, // it has it now,
		{at: 5 + askingFor, came: true, b: advert},                // and hears itself
	} {
		h.check(t, g)
	}
}

func TestWhatAGuestFloodsIsBounded(t *testing.T) {
	g := testGuest(t)
	told := 0
	for i := range 10_000 {
		now := after(time.Duration(i) * time.Millisecond)
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		c := client{mac: guestMAC, xid: uint32(i), id: strings.Repeat("x", 255)}
		for _, b := range [][]byte{
			arp(opRequest, guestMAC, a, a), arp(opRequest, guestMAC, noIP, a),
			c.sends(dhcpDiscover, noIP), c.sends(dhcpRelease, a), c.sends(dhcpRequest, a),
		} {
			g.hear(b, true, now)
		}
		g.hear(c.gets(dhcpAck, a, leaseTime(3600)), false, now)
		told += len(g.news.take(now))
	}
	if told > 10*EventsPerSecond {
		t.Errorf("%d events in 10 s", told)
	}
	sizes := []int{len(g.leases), len(g.asking), len(g.current), len(g.own.byXID), len(g.news.told), len(g.news.waiting)}
	limits := []int{leasesMost, askingMost, exchangesMost, exchangesMost, toldMost, EventsPerSecond + leasesMost}
	for i := range sizes {
		if sizes[i] > limits[i] {
			t.Errorf("sizes %v, limits %v", sizes, limits)
		}
	}
}

func TestASpecThatCannotBeRightIsRefused(t *testing.T) {
	good := Spec{Key: "vm/nic", Sends: ingress, MAC: guestMAC}
	if _, err := newGuest(good); err != nil {
		t.Error(err)
	}
	for want, edit := range map[string]func(*Spec){
		"has no name":         func(s *Spec) { s.Key = "" },
		`not by "both"`:       func(s *Spec) { s.Sends = "both" },
		"no MAC of Ethernet":  func(s *Spec) { s.MAC = net.HardwareAddr{1, 2, 3} },
		`"" is no MAC of Eth`: func(s *Spec) { s.MAC = nil },
	} {
		s := good
		edit(&s)
		if _, err := newGuest(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestAGuestThatIsListenedToAnewKeepsItsLeases(t *testing.T) {
	c := client{mac: guestMAC, xid: 7}
	old, anew := testGuest(t), testGuest(t)
	old.hear(c.sends(dhcpRequest, noIP, optionIP(optRequested, ip("192.0.2.7"))), true, began)
	old.leases[ip("192.0.2.8")] = lease{until: after(time.Minute)}
	anew.leases[ip("192.0.2.8")] = lease{until: after(time.Hour)}
	anew.inherit(old)
	old.dropExchanges()
	hears{came: true, b: c.gets(dhcpAck, ip("192.0.2.7"), leaseTime(60)), want: "192.0.2.7 by DHCP lease until 1m0s"}.check(t, anew)
	want := leases{ip("192.0.2.7"): {until: after(time.Minute), client: string(guestMAC)}, ip("192.0.2.8"): {until: after(time.Hour)}}
	if !reflect.DeepEqual(anew.leases, want) || len(old.own.byXID) != 0 {
		t.Errorf("%v, want %v; left %v", anew.leases, want, old.own.byXID)
	}
}
