package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// modesConfig offers every mode that this kernel has. Both uplinks lead to one
// switch outside: o0 is u0's port of it, o1 the bridge's.
const modesConfig = `
uplinks:
  - {name: u0, nic: {}}
  - {name: br0, external: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge, private, vepa]}
  - {name: sw, uplinks: [br0], modes: [switched]}
rules:
  - {vm: "vrrp*", networks: [lan, sw], extra: {macs: ["00:00:5e:00:01:07"], ips: [10.99.0.250]}}
  - {vm: "*", networks: [lan, sw]}
hypervisors:
  libvirt: {uri: none}
  qmp: {sockets: ["DIR/qmp/{vm}.sock"]}
  netns: {trusted: ["DIR/netns/infra*"]}
`

func newModesBed(t testing.TB, config string) *bed {
	t.Helper()
	b := newBed(t, config)
	testkit.NewVeth(t, b.host, "p0", b.outside, "o1")
	b.host.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	b.inside(b.host, "ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "0")
	b.inside(b.host, "ip", "link", "set", "p0", "master", "br0")
	b.host.SetUp(t, "br0")
	b.outsideBridge("o0", "o1")
	b.inside(b.outside, "ip", "link", "set", "sw0", "type", "bridge", "mcast_snooping", "0")
	return b
}

// speaker is somebody behind a NIC who sends what it likes, and whose own stack is
// honest.
type speaker struct {
	b     *bed
	att   vmnetd.Attachment
	mac   net.HardwareAddr
	stack *testkit.Netns
	dev   string // the stack's device
	port  string // outside, where its frames come in
	send  func(frame []byte)
}

// last parts of the addresses that speakers are given.
var speakerIPs = []string{"10.99.0.7/24", "fd99::7/64"}

var (
	speaker4 = netip.MustParseAddr("10.99.0.7")
	speaker6 = netip.MustParseAddr("fd99::7")
)

// speakers are the kinds of NIC that this kernel has.
var speakers = map[string]func(b *bed, name string, flags ...string) *speaker{
	"macvtap": func(b *bed, name string, flags ...string) *speaker {
		return b.tapSpeaker(name, "o0", append(flags, "--network", "lan")...)
	},
	"tap": func(b *bed, name string, flags ...string) *speaker {
		return b.tapSpeaker(name, "o1", append(flags, "--network", "sw")...)
	},
	"veth": func(b *bed, name string, flags ...string) *speaker {
		return b.endpointSpeaker(name, append(flags, "--network", "sw")...)
	},
}

func eachSpeaker(t *testing.T, config string, run func(t *testing.T, b *bed, begin func(name string, flags ...string) *speaker)) {
	for kind, begin := range speakers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newModesBed(t, config)
			b.start()
			run(t, b, func(name string, flags ...string) *speaker { return begin(b, name, flags...) })
			b.stop()
		})
	}
}

// tapSpeaker is a guest whose queues this process has, too. Its stack has the
// speakers' addresses.
func (b *bed) tapSpeaker(vm, port string, flags ...string) *speaker {
	b.t.Helper()
	p := b.spawn(binary, append(append([]string{"exec", vm}, flags...), "--", "sh", "-c", "exec sleep 600", "{netdev}")...)
	s := &speaker{b: b, att: b.attachedVM(vm), port: port, dev: testkit.GuestDevice}
	s.mac = parseMAC(b.t, s.att.MAC)
	b.eventually("the process has its queues", 10*time.Second, func() error {
		if n := tapQueues(p.pid()); n != s.att.Queues {
			return fmt.Errorf("process %d holds %d queues of %d: %s", p.pid(), n, s.att.Queues, &p.out)
		}
		return nil
	})
	queues := b.queuesOf(p.pid())
	s.stack = testkit.NewStackGuest(b.t, queues, 10, s.mac, true).Netns
	s.send = func(frame []byte) {
		_, _ = unix.Write(queues[0], append(make([]byte, 10), frame...)) // what the filter drops may be told as an error
	}
	s.address(speakerIPs...)
	return s
}

// address gives a guest's stack its addresses, which are good at once.
func (s *speaker) address(ips ...string) {
	s.b.t.Helper()
	s.b.inside(s.stack, "sysctl", "-qw", "net.ipv6.conf."+s.dev+".accept_dad=0")
	for _, ip := range ips {
		s.b.inside(s.stack, "ip", "address", "replace", ip, "dev", s.dev)
	}
}

// queuesOf is the queues that a process holds, opened here as well.
func (b *bed) queuesOf(pid int) []int {
	b.t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer unix.Close(pidfd)
	var queues []int
	for n, target := range openFiles(pid) {
		if !strings.Contains(target, "tap") && !strings.HasSuffix(target, "/tun") {
			continue
		}
		var fd int
		if _, err := fmt.Sscan(n, &fd); err != nil {
			b.t.Fatal(err)
		}
		q, err := unix.PidfdGetfd(pidfd, fd, 0)
		if err != nil {
			b.t.Fatalf("cannot take queue %d of process %d: %v", fd, pid, err)
		}
		b.t.Cleanup(func() { _ = unix.Close(q) })
		if err := unix.SetNonblock(q, true); err != nil {
			b.t.Fatal(err)
		}
		queues = append(queues, q)
	}
	return queues
}

// container is a network namespace at a path of its own, as `ip netns add` makes
// one; nothing else holds it once end was called.
type container struct {
	*testkit.Netns
	path string
}

func (b *bed) container(name string) *container {
	b.t.Helper()
	c := &container{Netns: testkit.NewNetns(b.t), path: filepath.Join(b.path("netns"), name)}
	b.inside(c.Netns, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
	if err := os.MkdirAll(b.path("netns"), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(c.path, nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := unix.Mount(c.Path(), c.path, "", unix.MS_BIND, ""); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = unix.Unmount(c.path, unix.MNT_DETACH) })
	return c
}

// end is `ip netns del`.
func (c *container) end(t testing.TB) {
	t.Helper()
	if err := unix.Unmount(c.path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(c.path); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) endpointSpeaker(name string, flags ...string) *speaker {
	b.t.Helper()
	c := b.container(name)
	att := b.attach(append([]string{name, "--via", "netns:" + c.path}, lengthened(flags)...)...)
	s := &speaker{b: b, att: att, mac: parseMAC(b.t, att.MAC), stack: c.Netns, dev: att.Name, port: "o1"}
	s.address(speakerIPs...)
	fd := rawSocket(b.t, c.Netns, s.dev)
	s.send = func(frame []byte) { _, _ = unix.Write(fd, frame) }
	return s
}

// lengthened gives the speakers' addresses their length: an endpoint has them as
// they are asked for.
func lengthened(flags []string) []string {
	var out []string
	for _, f := range flags {
		for _, ip := range speakerIPs {
			if plain, _, _ := strings.Cut(ip, "/"); f == plain {
				f = ip
			}
		}
		out = append(out, f)
	}
	return out
}

// rawSocket sends frames by a device and hears nothing.
func rawSocket(t testing.TB, ns *testkit.Netns, ifname string) int {
	t.Helper()
	index, fd := ns.Link(t, ifname).Index, -1
	err := ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// pings says whether a ping of an address is answered.
func (s *speaker) pings(ip string, want bool) error {
	how := []string{"-q", "-c", "1", "-w", "1"}
	if want {
		how[4] = "10" // until one is answered
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := s.stack.Command(ctx, "ping", append(how, ip)...).CombinedOutput()
	if (err == nil) != want {
		return fmt.Errorf("%s answers %s: %v, want %v: %s", ip, s.att.FullName(), err == nil, want, out)
	}
	return nil
}

// marker is a frame that any guest may send, unlike any other.
func (s *speaker) marker(n int) []byte {
	return udp4(somebodyMAC, s.mac, speaker4, somebody4, 6000, 6000, fmt.Appendf(nil, "marker %d of %s", n, s.att.FullName()))
}

// leaves sends frames, one by one and a marker after each, and says which were
// heard outside.
func (s *speaker) leaves(list []trick) map[string]bool {
	s.b.t.Helper()
	ear := s.b.outside.Sniff(s.b.t, s.port)
	out := map[string]bool{}
	for i, k := range list {
		s.send(k.frame)
		end := s.marker(i)
		s.send(end)
		for {
			f, ok := ear.Next(s.b.t, 10*time.Second)
			if !ok {
				s.b.t.Fatalf("after %q the marker was not heard: nothing leaves at all", k.name)
			}
			if bytes.Equal(f.Bytes, end) {
				break
			}
			for _, k := range list {
				if f.VLAN != 0 && bytes.Equal(f.Bytes[:12], k.frame[:12]) && bytes.HasSuffix(k.frame, f.Bytes[12:]) || bytes.Equal(f.Bytes, k.frame) {
					out[k.name] = true
				}
			}
		}
	}
	return out
}

// counted is the filter's counters as `show --json` has them, by rule.
func (b *bed) counted(name string) map[string]vmnetd.Counter {
	b.t.Helper()
	var shown struct{ Filter []vmnetd.Counter }
	if err := json.Unmarshal([]byte(b.must(0, "show", name, "--json").out), &shown); err != nil {
		b.t.Fatal(err)
	}
	all := map[string]vmnetd.Counter{}
	for _, c := range shown.Filter {
		all[c.Rule] = c
	}
	return all
}

// ruleset is what nft(8) has in a namespace, without its counters.
func (b *bed) ruleset(ns *testkit.Netns) string {
	b.t.Helper()
	return b.inside(ns, "nft", "--stateless", "list", "ruleset")
}
