package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const incomingConfig = `
uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
hypervisors: {libvirt: {uri: none}, qmp: {sockets: ["DIR/qmp/{vm}.sock"], events: ["DIR/events/{vm}.sock"]}}
`

// plainBed is two hosts without libvirt on one switch, and a guest that its peer
// pings at 100 Hz.
type plainBed struct {
	*testkit.TwoHosts
	a, b  *bed
	att   vmnetd.Attachment // on A
	pings *testkit.Pings
	runs  int
}

// plain is a QEMU of the guest's.
type plain struct {
	*testkit.Guest
	control string // its QMP socket that is the test's alone
}

// options is the guest's machine on a host, with a socket for events or without.
func (p *plainBed) options(b *bed, events bool) (testkit.GuestOptions, string) {
	p.runs++
	control := b.path(fmt.Sprintf("c%d", p.runs))
	o := testkit.GuestOptions{Name: mover, QMPSocket: b.path("qmp/" + mover + ".sock"), Netns: b.host.Do}
	o.Args = []string{"-qmp", "unix:" + control + ",server=on,wait=off"}
	if events {
		o.Args = append(o.Args, "-qmp", "unix:"+b.path("events/"+mover+".sock")+",server=on,wait=off")
	}
	return o, control
}

func newPlainBed(t *testing.T) (*plainBed, plain) {
	t.Helper()
	testkit.Require(t, "netns")
	p := &plainBed{TwoHosts: testkit.NewTwoHosts(t)}
	p.a, p.b = newBedIn(t, incomingConfig, p.A, p.Net), newBedIn(t, incomingConfig, p.B, p.Net)
	for _, b := range []*bed{p.a, p.b} {
		if err := os.Mkdir(b.path("events"), 0o700); err != nil {
			t.Fatal(err)
		}
		b.start()
	}
	o, control := p.options(p.a, true)
	g := plain{testkit.BootGuest(t, o), control}
	w := &ward{Guest: g.Guest, b: p.a}
	p.att = p.a.attach(mover, "--id", "net0", "--bus", "rp0", "--addr", "0")
	nic, err := g.WaitIface(t.Context(), parseMAC(t, p.att.MAC))
	if err != nil {
		t.Fatal(err)
	}
	w.sh("ip address add %s/24 dev %s; ip link set %s up; arp -s %s %s", guestOurs, nic, nic, testkit.PeerAddress, p.Peer.Link(t, "peer0").MAC)
	p.Peer.Run(t, "ip", "neigh", "replace", guestOurs, "lladdr", p.att.MAC, "dev", "peer0")
	p.pings = testkit.StartPings(t, p.Peer, 10*time.Millisecond, netip.MustParseAddr(guestOurs))
	return p, g
}

// expect starts a QEMU that waits for the guest, and gives it the NIC.
func (p *plainBed) expect(t *testing.T, b *bed, events bool) (plain, string) {
	t.Helper()
	o, control := p.options(b, events)
	uri := "unix:" + b.path(fmt.Sprintf("m%d", p.runs))
	g, err := testkit.StartIncoming(t.Context(), t, o, uri)
	if err != nil {
		t.Fatal(err)
	}
	b.qmp(o.QMPSocket, "query-status", nil) // it listens
	att := b.attach(mover, "--incoming", "--id", "net0", "--bus", "rp0", "--addr", "0", "--mac", p.att.MAC)
	if att.Phase != vmnetd.Attached || att.Link != "down" || att.MAC != p.att.MAC {
		t.Errorf("where the guest is awaited: %+v", att)
	}
	return plain{g, control}, uri
}

// begin begins a migration that does not end until it is let go.
func (p *plainBed) begin(t *testing.T, from *bed, g plain, to *bed, uri string) {
	t.Helper()
	from.qmp(g.control, "migrate-set-parameters", map[string]any{"max-bandwidth": 1 << 20})
	from.qmp(g.control, "migrate", map[string]any{"uri": uri})
	from.eventually("the guest is on its way", testkit.Patience, func() error {
		var info struct{ RAM struct{ Transferred int64 } }
		if err := json.Unmarshal(from.qmp(g.control, "query-migrate", nil), &info); err != nil || info.RAM.Transferred == 0 {
			return fmt.Errorf("%+v %w", info, err)
		}
		return nil
	})
	if att := to.list(mover)[0]; att.Link != "down" || att.Phase != vmnetd.Attached || to.host.Link(t, att.Ifname).Up {
		t.Errorf("the guest is elsewhere: %+v", att)
	}
}

// letGo ends what begin holds back.
func (p *plainBed) letGo(b *bed, g plain) {
	b.qmp(g.control, "migrate-set-parameters", map[string]any{"max-bandwidth": 10 << 30})
}

// stays checks that the guest works on A and that B has nothing of it.
func (p *plainBed) stays(t *testing.T, g plain, gone plain) {
	t.Helper()
	select {
	case <-gone.Ended():
	case <-time.After(testkit.Patience):
		t.Error("the QEMU that the guest did not come to does not end")
	}
	p.a.eventually("the guest goes on", testkit.Patience, func() error {
		var status struct{ Running bool }
		if err := json.Unmarshal(p.a.qmp(g.control, "query-status", nil), &status); err != nil || !status.Running {
			return fmt.Errorf("%+v %w", status, err)
		}
		if att := p.a.list(mover)[0]; att.Link != "up" || att.Ifindex != p.att.Ifindex || att.Problem != "" {
			return fmt.Errorf("%+v", att)
		}
		return nil
	})
	if !p.pings.Answered(10, testkit.Patience) {
		t.Errorf("the guest does not answer any more: %+v", p.pings.Counts())
	}
	p.b.nothing()
}

// TestMigrationByQMP moves a guest that QEMU alone runs.
func TestMigrationByQMP(t *testing.T) {
	t.Parallel()
	p, g := newPlainBed(t)

	there, uri := p.expect(t, p.b, false)
	p.begin(t, p.a, g, p.b, uri)
	p.a.qmp(g.control, "migrate_cancel", nil)
	p.stays(t, g, there)

	there, uri = p.expect(t, p.b, false)
	p.begin(t, p.a, g, p.b, uri)
	there.Kill()
	p.stays(t, g, there)

	// The host that it comes to has to ask whether it runs, and is told so on the way back.
	there = p.move(t, p.a, g, p.b, "b", false)
	p.Mute(t, p.pings)
	p.move(t, p.b, there, p.a, "a", true)
	p.a.stop()
	p.b.stop()
}

// move moves the guest and ends the QEMU that it has left.
func (p *plainBed) move(t *testing.T, from *bed, g plain, to *bed, port string, events bool) plain {
	t.Helper()
	there, uri := p.expect(t, to, events)
	up := whenUp(t, to.host, p.att.Ifname)
	resumed := to.qmpAwait(there.control, "RESUME")
	wire := p.Net.Sniff(t, port, unix.ETH_P_RARP, unix.ETH_P_ARP, unix.ETH_P_IP)
	if !p.pings.Answered(10, testkit.Patience) {
		t.Fatalf("the guest does not answer: %+v", p.pings.Counts())
	}
	p.pings.Begin()
	p.begin(t, from, g, to, uri)
	p.letGo(from, g)
	ran := resumed()
	if at := up(); at.Before(ran) {
		t.Errorf("the device was up %s before the guest's CPUs ran", ran.Sub(at))
	} else {
		t.Logf("the device was up %s after the guest's CPUs ran", at.Sub(ran))
	}
	if !p.pings.Answered(10, testkit.Patience) {
		t.Errorf("the guest does not answer where it is now: %+v", p.pings.Counts())
	}
	lost := p.pings.Counts()[0]
	t.Logf("%d of %d pings lost, longest gap %s, of that %s after its CPUs ran", lost.Lost, lost.Sent, lost.Gap, p.pings.GapsAfter(ran)[0])
	if lost.Gap > outage {
		t.Errorf("the move cost %+v", lost)
	}
	announced(t, wire, p.att.MAC, ran)
	if out, err := there.Run(t.Context(), "echo here"); err != nil || out != "here\n" {
		t.Errorf("where it is now the guest says %q, %v", out, err)
	}
	if att := to.list(mover)[0]; att.Link != "up" || att.Phase != vmnetd.Attached || att.Problem != "" {
		t.Errorf("it arrived as %+v", att)
	}
	g.Kill()
	from.nothing()
	return there
}

// qmpAwait listens for an event and tells when it was, by QEMU's clock.
func (b *bed) qmpAwait(socket, event string) func() time.Time {
	b.t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	dec := json.NewDecoder(conn)
	b.qmpReply(dec, "greeting")
	if err := json.NewEncoder(conn).Encode(map[string]string{"execute": "qmp_capabilities"}); err != nil {
		b.t.Fatal(err)
	}
	b.qmpReply(dec, "qmp_capabilities")
	return func() time.Time {
		defer conn.Close()
		for {
			var m struct {
				Event     string
				Timestamp struct{ Seconds, Microseconds int64 }
			}
			if err := dec.Decode(&m); err != nil {
				b.t.Fatalf("%s: %v", event, err)
			}
			if m.Event == event {
				return time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)
			}
		}
	}
}
