package nexthop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

// guest is a guest at frame level on the queue of a tap device.
type guest struct {
	t     *testing.T
	ns    *testkit.Netns // of its device
	far   *testkit.Netns // of the uplink's other end, far0
	index int
	fd    int
	mac   net.HardwareAddr
}

var guestMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}

// newGuest is a guest on a macvtap: what its device does behind the program is
// nothing to the program.
func newGuest(t *testing.T) *guest {
	t.Helper()
	testkit.Require(t, "netns")
	host, out := mute(t), mute(t)
	testkit.NewVeth(t, host, "u0", out, "far0")
	host.Create(t, rtnl.NewLink{Name: "g0", Kind: "macvtap", Lower: host.Link(t, "u0").Index, MAC: guestMAC, Data: rtnl.MacvlanMode("bridge")})
	g := open(t, host, "g0")
	g.far = out
	return g
}

// mute is a namespace whose own stack has no IPv6, and so says nothing by itself.
func mute(t *testing.T) *testkit.Netns {
	t.Helper()
	ns := testkit.NewNetns(t)
	for _, of := range []string{"all", "default"} {
		if err := ns.Do(func() error { return disableIPv6(of, "1") }); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

func disableIPv6(of, value string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+of+"/disable_ipv6", []byte(value), 0)
}

// open opens the queue of a tap device and sets it up.
func open(t *testing.T, ns *testkit.Netns, name string) *guest {
	t.Helper()
	g := &guest{t: t, ns: ns, index: ns.Link(t, name).Index, fd: queue(t, ns, name), mac: ns.Link(t, name).MAC}
	ns.SetUp(t, name)
	ns.WaitRunning(t, name)
	return g
}

// queue opens a node of the test's own: /dev/tapN may be another namespace's.
func queue(t *testing.T, ns *testkit.Netns, name string) int {
	t.Helper()
	script := "mount -t sysfs sysfs /sys && cat /sys/class/net/" + name + "/tap*/dev"
	out, err := ns.Command(t.Context(), "unshare", "--mount", "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var major, minor uint32
	for i, part := range strings.Split(strings.TrimSpace(string(out)), ":") {
		for _, digit := range part {
			*[]*uint32{&major, &minor}[i] = 10**[]*uint32{&major, &minor}[i] + uint32(digit-'0')
		}
	}
	dir, err := os.MkdirTemp("/dev", "nexthop") // /tmp may be mounted nodev
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tap")
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	ifr, err := unix.NewIfreq("")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		t.Fatal(err)
	}
	return fd
}

func (g *guest) answer() {
	g.t.Helper()
	if err := Answer(g.t.Context(), g.ns.Conn(), g.index); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) send(frame []byte) {
	g.t.Helper()
	if _, err := unix.Write(g.fd, frame); err != nil {
		g.t.Fatalf("cannot send: %v", err)
	}
}

// hear is the next frame for which is says yes, nil when none comes in time.
func (g *guest) hear(within time.Duration, is func([]byte) bool) []byte {
	g.t.Helper()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(within); ; {
		n, err := unix.Read(g.fd, buf)
		switch {
		case err == nil && is(buf[:n]):
			return bytes.Clone(buf[:n])
		case err == nil:
			continue
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			g.t.Fatal(err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}

func isARP(b []byte) bool { return len(b) >= 42 && binary.BigEndian.Uint16(b[12:]) == 0x0806 }

func isND(b []byte) bool {
	return len(b) >= 78 && binary.BigEndian.Uint16(b[12:]) == 0x86dd && b[20] == 58 && (b[54] == 135 || b[54] == 136)
}

func ethernet(dst, src net.HardwareAddr, etherType uint16, payload ...[]byte) []byte {
	b := append(bytes.Clone(dst), src...)
	b = binary.BigEndian.AppendUint16(b, etherType)
	for _, p := range payload {
		b = append(b, p...)
	}
	return b
}

// arp is a request or reply of the guest.
func (g *guest) arp(dst net.HardwareAddr, op byte, sender, target string) []byte {
	s, t := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	return ethernet(dst, g.mac, 0x0806, []byte{0, 1, 8, 0, 6, 4, 0, op}, g.mac, s[:], make([]byte, 6), t[:])
}

// solicit is a neighbour solicitation of the guest with those options behind it.
func (g *guest) solicit(dst net.HardwareAddr, src, target string, options ...byte) []byte {
	s, t := netip.MustParseAddr(src).As16(), netip.MustParseAddr(target).As16()
	to := t
	if dst[0] == 0x33 { // solicited-node group
		to = [16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]}
	}
	msg := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, t[:]...)
	msg = append(msg, options...)
	binary.BigEndian.PutUint16(msg[2:], icmpSum(s[:], to[:], msg))
	return ethernet(dst, g.mac, 0x86dd, ipv6(s[:], to[:], 58, len(msg)), msg)
}

func ipv6(src, dst []byte, next byte, length int) []byte {
	b := []byte{0x60, 0, 0, 0, byte(length >> 8), byte(length), next, 255}
	return append(append(b, src...), dst...)
}

// icmpSum is the checksum of an ICMPv6 message (RFC 4443 2.3), 0 where the message
// has the right one.
func icmpSum(src, dst, msg []byte) uint16 {
	all := append(append(bytes.Clone(src), dst...), 0, 0, byte(len(msg)>>8), byte(len(msg)), 0, 0, 0, 58)
	return sum(append(all, msg...))
}

func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
