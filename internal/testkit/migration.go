package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// TwoHosts is two hosts on one switch with a peer on it:
//
//	A u0 ── a ┐
//	          sw ── peer0
//	B u0 ── b ┘
//
// The switch keeps what it learns for 300 s, as a real one does.
type TwoHosts struct {
	A, B, Net, Peer *Netns
}

// NewTwoHosts builds it. The peer has PeerAddress; nothing has IPv6.
func NewTwoHosts(t TB) *TwoHosts {
	t.Helper()
	h := &TwoHosts{A: NewNetns(t), B: NewNetns(t), Net: NewNetns(t), Peer: NewNetns(t)}
	for _, n := range []*Netns{h.A, h.B, h.Net, h.Peer} {
		n.IPv6(t, false)
	}
	sw := h.Net.Create(t, rtnl.NewLink{Name: "sw", Kind: "bridge"})
	h.Net.SetUp(t, "sw")
	NewVeth(t, h.A, "u0", h.Net, "a")
	NewVeth(t, h.B, "u0", h.Net, "b")
	NewVeth(t, h.Peer, "peer0", h.Net, "p")
	h.A.SkipIndexes(t, "u0")
	h.B.SkipIndexes(t, "u0")
	for _, port := range []string{"a", "b", "p"} {
		h.Net.Set(t, port, rtnl.Master(sw.Index))
	}
	h.Peer.Run(t, "ip", "address", "add", PeerAddress+"/24", "dev", "peer0")
	return h
}

// Mute has the switch take no IPv4 from the hosts: a guest that answers pings is one
// that says nothing, to the switch and to everybody behind it. Its ARP and what is
// sent in its name pass. What the ports hear is in p's counts all the same.
func (h *TwoHosts) Mute(t TB, p *Pings) {
	t.Helper()
	for _, port := range []string{"a", "b"} {
		p.hearAt(h.Net.Sniff(t, port, unix.ETH_P_IP), t)
		t.Cleanup(p.Stop) // before the sniffer is closed
		h.Net.Run(t, "nft", fmt.Sprintf(`table netdev mute_%s { chain in { type filter hook ingress device "%s" priority 0; ether type ip drop; }; }`, port, port))
	}
}

// Migrate moves a running guest of libvirt to another host, as virsh migrate --live
// does that its operator types. edit, which may be nil, changes the XML that it has
// there.
func Migrate(from, to *Libvirtd, domain string, edit func(xml string) string) error {
	xml, err := from.TryVirsh("dumpxml", "--migratable", domain)
	if err != nil {
		return err
	}
	to.guestImage(to.t)
	xml = strings.ReplaceAll(xml, from.guestDir(from.t), to.guestDir(to.t))
	if edit != nil {
		xml = edit(xml)
	}
	file := filepath.Join(to.guestDir(to.t), domain+".migrate.xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		return err
	}
	// The state goes by a unix socket: the hosts need no way to each other.
	socket := filepath.Join(to.guestDir(to.t), domain+".migrate")
	_, err = from.TryVirsh("migrate", "--live", domain, to.URI, "--migrateuri", "unix://"+socket, "--xml", file)
	return err
}

// Migrate moves the guest.
func (g *LibvirtGuest) Migrate(to *Libvirtd, edit func(xml string) string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := Migrate(g.on, to, g.Name, edit); err != nil {
		return err
	}
	g.hangUpLocked()
	g.on = to
	return nil
}

// MigrationCost is what a guest's peer saw of its move at one of its addresses.
type MigrationCost struct {
	PingCount
	Silence time.Duration // the longest without an answer once its CPUs ran again
	Took    time.Duration // the command
}

// MeasureMigration moves a guest that is being pinged to another host. It returns
// once the pings are answered again: a cost for each address.
func MeasureMigration(t TB, p *Pings, to *Libvirtd, move func() error) []MigrationCost {
	t.Helper()
	if !p.Answered(10, Patience) {
		t.Fatalf("the guest did not answer before it was moved: %+v", p.Counts())
	}
	resumed := to.WatchResume()
	p.Begin()
	began := time.Now()
	if err := move(); err != nil {
		t.Fatalf("%v", err)
	}
	took := time.Since(began)
	if !p.Answered(10, Patience) {
		t.Fatalf("the guest does not answer where it was moved to: %+v", p.Counts())
	}
	ran, err := resumed()
	if err != nil {
		t.Fatalf("%v", err)
	}
	counts, silences := p.Counts(), p.GapsAfter(ran)
	costs := make([]MigrationCost, len(counts))
	for i := range costs {
		costs[i] = MigrationCost{PingCount: counts[i], Silence: silences[i], Took: took}
	}
	return costs
}

// String is the cost in one line.
func (c MigrationCost) String() string {
	return fmt.Sprintf("%d of %d pings lost, longest gap %d ms, of that %.1f ms after its CPUs ran; moved in %.1f s",
		c.Lost, c.Sent, c.Gap.Milliseconds(), float64(c.Silence.Microseconds())/1000, c.Took.Seconds())
}

// WatchResume begins to listen for the next guest whose CPUs run; what it returns
// waits for that and says when it was, by QEMU's clock.
func (l *Libvirtd) WatchResume() func() (time.Time, error) {
	type outcome struct {
		out string
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		out, err := l.TryVirsh("qemu-monitor-event", "--event", "RESUME", "--timeout", "120")
		done <- outcome{out, err}
	}()
	return func() (time.Time, error) {
		o := <-done
		var seconds, micros int64
		if _, err := fmt.Sscanf(o.out, "event RESUME at %d.%d", &seconds, &micros); err != nil {
			return time.Time{}, fmt.Errorf("virsh qemu-monitor-event says %q: %w", o.out, errors.Join(err, o.err))
		}
		return time.Unix(seconds, micros*1000), nil
	}
}

// Acquaint gives a NIC of a guest an address, and makes the guest and the peer
// know each other's MAC: neither has to ask. peerAddress is the peer's own in the
// same /24, which it has then.
func (h *TwoHosts) Acquaint(t TB, g *LibvirtGuest, mac, address, peerAddress string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	parsed, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatalf("%v", err)
	}
	name, err := g.WaitIface(ctx, parsed)
	if err == nil {
		_, err = g.Run(ctx, fmt.Sprintf("ip address add %s/24 dev %s; ip link set %s up; arp -s %s %s", address, name, name, peerAddress, h.Peer.Link(t, "peer0").MAC))
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	h.Peer.Run(t, "ip", "address", "replace", peerAddress+"/24", "dev", "peer0")
	h.Peer.Run(t, "ip", "neigh", "replace", address, "lladdr", mac, "dev", "peer0")
}
