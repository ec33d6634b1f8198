package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const guestsConfig = `
uplinks:
  - {name: u0, nic: {}}
  - {name: u1, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge, private, vepa]}
  - {name: whole0, uplinks: [u0], modes: [passthru]}
  - {name: whole1, uplinks: [u1], modes: [passthru]}
rules:
  - {vm: "*", networks: [lan]}
  - {vm: "*", networks: [whole0, whole1], modes: [passthru]}
hypervisors: {libvirt: {uri: none}, qmp: {sockets: ["DIR/qmp/{vm}.sock"]}}
`

// Addresses of everybody on the wire; 99 is the outside, 98 the host on u0.
const (
	outside4, outside6 = "10.99.0.99", "fd99::99"
	onUplink4          = "10.99.0.98"
)

// ward is a booted guest and what it needs to be spoken to.
type ward struct {
	*testkit.Guest
	b    *bed
	host string // the last part of its addresses
	nic  string // as the guest calls it
	att  vmnetd.Attachment
}

func (w *ward) ip4() string { return "10.99.0." + w.host }
func (w *ward) ip6() string { return "fd99::" + w.host }

// sh runs a script in the guest that has to end well.
func (w *ward) sh(format string, args ...any) string {
	w.b.t.Helper()
	out, err := w.try(format, args...)
	if err != nil {
		w.b.t.Fatalf("in %s: %v\n%s\ndaemon: %s", w.Name, err, out, w.b.daemon.log)
	}
	return strings.TrimSpace(out)
}

func (w *ward) try(format string, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	return w.Run(ctx, fmt.Sprintf(format, args...))
}

// reaches says whether a ping of an address is answered. An answer that has to
// come may take its time on a busy machine; one that must not come would be
// there at once.
func (w *ward) reaches(ip string, want bool) bool {
	w.b.t.Helper()
	how := "-c 2 -i 0.2 -W 1"
	if want {
		how = "-c 1 -W 20"
	}
	_, err := w.try("ping -q %s %s", how, ip)
	var code *testkit.GuestExitError
	if err != nil && !errors.As(err, &code) {
		w.b.t.Fatal(err)
	}
	return err == nil
}

// attach gives the guest a NIC by the command line and sets it up in the guest.
func (w *ward) attach(flags ...string) {
	w.b.t.Helper()
	w.att = w.b.attach(append([]string{w.Name}, flags...)...)
	w.configure()
}

// configure waits for the NIC in the guest and gives it its addresses.
func (w *ward) configure() {
	w.b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	nic, err := w.WaitIface(ctx, parseMAC(w.b.t, w.att.MAC))
	if err != nil {
		kernel, _ := w.try("dmesg | tail -20; ls /sys/bus/pci/devices /sys/bus/virtio/devices")
		w.b.t.Fatalf("%v\nguest: %s\nlist: %+v\ndaemon: %s", err, kernel, w.b.list(), w.b.daemon.log)
	}
	w.nic = nic
	// without DAD an IPv6 address is good at once
	w.sh(`echo 0 >/proc/sys/net/ipv6/conf/%[1]s/accept_dad
		ip link set %[1]s up && ip addr add %[2]s/24 dev %[1]s && ip -6 addr add %[3]s/64 dev %[1]s`, nic, w.ip4(), w.ip6())
}

// detach takes the NIC away: the guest lets go of it, and nothing is left.
func (w *ward) detach() {
	w.b.t.Helper()
	w.b.must(0, "detach", w.Name)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := w.WaitNoIface(ctx, parseMAC(w.b.t, w.att.MAC)); err != nil {
		w.b.t.Fatalf("after detach the guest still has its NIC: %v", err)
	}
	w.b.eventually("detached", 20*time.Second, func() error {
		if list := w.b.list(w.Name); len(list) > 0 {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}

// outsideBridge makes of the outside a switch with a host behind it.
func (b *bed) outsideBridge(ports ...string) {
	b.t.Helper()
	b.outside.Create(b.t, rtnl.NewLink{Name: "sw0", Kind: "bridge"})
	b.inside(b.outside, "sysctl", "-qw", "net.ipv6.conf.sw0.accept_dad=0")
	for _, p := range ports {
		b.inside(b.outside, "ip", "link", "set", p, "master", "sw0")
	}
	b.outside.SetUp(b.t, "sw0")
	b.inside(b.outside, "ip", "address", "add", outside4+"/24", "dev", "sw0")
	b.inside(b.outside, "ip", "address", "add", outside6+"/64", "dev", "sw0")
}

// reflect has the switch send frames back where they came from, or not.
func (b *bed) reflect(port string, on bool) {
	b.t.Helper()
	b.inside(b.outside, "bridge", "link", "set", "dev", port, "hairpin", map[bool]string{true: "on", false: "off"}[on])
}

// inside runs a program in a namespace.
func (b *bed) inside(ns *testkit.Netns, name string, args ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := ns.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestBootedGuests(t *testing.T) {
	t.Parallel()
	b := newBed(t, guestsConfig)
	testkit.NewVeth(t, b.host, "u1", b.outside, "o1")
	b.outsideBridge("o0", "o1")
	b.inside(b.host, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1") // u1 says nothing of u0's address
	b.inside(b.host, "ip", "address", "add", onUplink4+"/24", "dev", "u0")
	b.start()
	began := time.Now()
	guests := testkit.BootGuests(t,
		testkit.GuestOptions{Name: "one", SMP: 8, QMPSocket: b.path("qmp/one.sock"), Netns: b.host.Do},
		testkit.GuestOptions{Name: "two", QMPSocket: b.path("qmp/two.sock"), Netns: b.host.Do})
	t.Logf("booted in %s", time.Since(began).Round(time.Second))
	one, two := &ward{Guest: guests[0], b: b, host: "11"}, &ward{Guest: guests[1], b: b, host: "12"}
	for _, sub := range []struct {
		name string
		run  func(b *bed, one, two *ward)
	}{
		{"EachModeReachesWhomItSays", eachMode},
		{"PassthruGivesEachGuestAnUplink", passthruGuests},
		{"GuestSeesItsQueues", queues},
		{"NoPingIsLostWhenTheDaemonIsKilled", daemonKilled},
		{"UplinkDeletedAndMadeAgain", uplinkAgain},
		{"DeviceDeletedBehindOurBack", deviceAgain},
	} {
		ok := t.Run(sub.name, func(t *testing.T) {
			outer := b.t
			b.t = t
			defer func() { b.t = outer }()
			sub.run(b, one, two)
		})
		if !ok {
			break // the guests are in a state that the next does not expect
		}
	}
	b.stop()
}

// eachMode checks docs/modes.md.
func eachMode(b *bed, one, two *ward) {
	for _, c := range []struct {
		mode     string
		reflect  bool
		peers    acquaintance
		onUplink bool
	}{
		{"bridge", false, both, false},
		{"bridge", true, both, true},
		{"private", false, neither, false},
		{"private", true, onlyUnicast, false},
		{"vepa", false, neither, false},
		{"vepa", true, both, true},
	} {
		b.reflect("o0", c.reflect)
		began := time.Now()
		one.attach("--mode", c.mode)
		two.attach("--mode", c.mode)
		what := fmt.Sprintf("%s, reflecting %v", c.mode, c.reflect)
		for _, w := range []*ward{one, two} {
			if !w.reaches(outside4, true) || !w.reaches(outside6, true) {
				b.t.Errorf("%s: %s does not reach the outside", what, w.Name)
			}
		}
		// The first frame to an IPv6 address is a solicitation to a multicast
		// group, so this is multicast from the outside as well.
		b.inside(b.outside, "ping", "-q", "-c", "1", "-W", "20", one.ip6())
		b.inside(b.outside, "ping", "-q", "-c", "1", "-W", "20", two.ip4())
		checkPair(b, what, one, two, c.peers)
		if got := one.reaches(onUplink4, c.onUplink); got != c.onUplink {
			b.t.Errorf("%s: the host's own address on the uplink reached: %v, want %v", what, got, c.onUplink)
		}
		one.detach()
		two.detach()
		b.t.Logf("%s: %s", what, time.Since(began).Round(100*time.Millisecond))
	}
	b.reflect("o0", false)
}

// acquaintance is what two guests hear of each other.
type acquaintance int

const (
	neither     acquaintance = iota
	onlyUnicast              // no broadcast and no multicast: they never learn each other's MAC
	both
)

// checkPair pings from one guest to the other, by IPv4 and by IPv6, the second
// of which needs multicast. Where they do not find each other, IPv4 is tried
// with the MACs given to them as well.
func checkPair(b *bed, what string, one, two *ward, want acquaintance) {
	b.t.Helper()
	if got := two.reaches(one.ip6(), want == both); got != (want == both) {
		b.t.Errorf("%s: the guests find each other by IPv6: %v, want %v", what, got, !got)
	}
	if got := one.reaches(two.ip4(), want == both); got != (want == both) {
		b.t.Errorf("%s: the guests find each other by IPv4: %v, want %v", what, got, !got)
	}
	if want == both {
		return
	}
	one.sh("arp -s %s %s", two.ip4(), two.att.MAC)
	two.sh("arp -s %s %s", one.ip4(), one.att.MAC)
	if got := one.reaches(two.ip4(), want == onlyUnicast); got != (want == onlyUnicast) {
		b.t.Errorf("%s: the guests reach each other, knowing the MACs: %v, want %v", what, got, !got)
	}
}

func passthruGuests(b *bed, one, two *ward) {
	own := b.host.Link(b.t, "u0").MAC.String()
	one.attach("--network", "whole0")
	two.attach("--network", "whole1")
	if now := b.host.Link(b.t, "u0").MAC.String(); now != one.att.MAC {
		b.t.Errorf("the uplink's MAC is %s, want the guest's %s", now, one.att.MAC)
	}
	for _, w := range []*ward{one, two} {
		if w.att.Mode != vmnetd.Passthru {
			b.t.Errorf("attached as %+v", w.att)
		}
		if !w.reaches(outside4, true) || !w.reaches(outside6, true) {
			b.t.Errorf("passthru: %s does not reach the outside", w.Name)
		}
	}
	checkPair(b, "passthru, by the switch", one, two, both)
	one.detach()
	two.detach()
	if now := b.host.Link(b.t, "u0").MAC.String(); now != own {
		b.t.Errorf("after detach the uplink has %s, not its own %s", now, own)
	}
}

func queues(b *bed, one, _ *ward) {
	for _, n := range []int{1, 2, 4, 8} {
		one.attach("--queues", fmt.Sprint(n))
		if got := one.sh("ls -d /sys/class/net/%s/queues/rx-* | wc -l", one.nic); got != fmt.Sprint(n) {
			b.t.Errorf("%d queues: the guest uses %s", n, got)
		}
		if held := tapQueues(one.PID()); held != n {
			b.t.Errorf("%d queues: QEMU holds %d", n, held)
		}
		if !one.reaches(outside4, true) {
			b.t.Errorf("%d queues: the outside is not reached", n)
		}
		one.detach()
	}
	one.attach()
	if one.att.Queues != 8 {
		b.t.Errorf("auto gave %d queues for 8 CPUs", one.att.Queues)
	}
	one.detach()
}

func daemonKilled(b *bed, one, _ *ward) {
	one.attach("--queues", "2")
	s := b.sniff("o0")
	type outcome struct {
		out string
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		out, err := one.try("ping -q -i 0.02 -c 200 -W 20 %s", outside4)
		done <- outcome{out, err}
	}()
	if !s.heard(parseMAC(b.t, one.att.MAC), 20*time.Second) {
		b.t.Fatal("no ping came out")
	}
	b.kill()
	b.start()
	restarted := time.Now()
	select {
	case <-done:
		b.t.Fatal("the pings ended before the daemon was back: they prove nothing")
	default:
	}
	got := <-done
	b.t.Logf("pinged %s on", time.Since(restarted).Round(100*time.Millisecond))
	if got.err != nil || !strings.Contains(got.out, " 200 packets received, 0% packet loss") {
		b.t.Errorf("%v\n%s", got.err, got.out)
	}
	if list := b.list(one.Name); len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Ifindex != one.att.Ifindex {
		b.t.Errorf("after the restart: %+v", list)
	}
	one.detach()
}

// backAgain waits until the guest's NIC is attached on another device than
// before and works once the guest has set it up.
func backAgain(b *bed, w *ward) {
	b.t.Helper()
	before := w.att
	b.eventually("the NIC is back", 30*time.Second, func() error {
		select {
		case <-w.Ended():
			_, err := w.try("true")
			b.t.Fatalf("QEMU has ended: %v\ndaemon: %s", err, b.daemon.log)
		default:
		}
		list := b.list(w.Name)
		if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Ifindex == before.Ifindex || list[0].Ifindex == 0 {
			return fmt.Errorf("%+v", list)
		}
		w.att = list[0]
		return nil
	})
	if w.att.MAC != before.MAC || w.att.ID != before.ID {
		b.t.Errorf("before %+v\nafter %+v", before, w.att)
	}
	w.configure()
	if !w.reaches(outside4, true) {
		b.t.Errorf("the outside is not reached")
	}
}

func uplinkAgain(b *bed, one, _ *ward) {
	one.attach()
	b.host.Delete(b.t, "u0")
	b.eventually("the uplink's end is seen", testkit.Patience, func() error {
		if list := b.list(one.Name); len(list) != 1 || list[0].Phase != vmnetd.Broken {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	b.eventually("the guest sees no carrier", 10*time.Second, func() error {
		if carrier := one.sh("cat /sys/class/net/%s/carrier", one.nic); carrier != "0" {
			return fmt.Errorf("carrier is %q", carrier)
		}
		return nil
	})
	b.newUplink()
	b.inside(b.outside, "ip", "link", "set", "o0", "master", "sw0")
	backAgain(b, one)
	one.detach()
}

func deviceAgain(b *bed, one, _ *ward) {
	one.attach()
	b.host.Delete(b.t, one.att.Ifname)
	backAgain(b, one)
	one.detach()
}
