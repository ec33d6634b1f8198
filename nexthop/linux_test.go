package nexthop

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// linux gives a guest's queue to a Linux of its own, in a namespace, as a virtio NIC
// would be: a tap device that says and hears what is on the queue.
func (g *guest) linux(addrs, gateways []string) *testkit.Netns {
	g.t.Helper()
	ns := testkit.NewNetns(g.t)
	var nic int
	err := ns.Do(func() error {
		var err error
		nic, err = tap("eth0")
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	ns.Set(g.t, "eth0", rtnl.MAC(g.mac))
	for _, a := range addrs {
		run(g.t, ns, "ip", "addr", "add", a, "dev", "eth0", "nodad")
	}
	ns.SetUp(g.t, "eth0")
	for _, a := range gateways {
		run(g.t, ns, "ip", "route", "add", "default", "via", a, "dev", "eth0", "onlink")
	}
	g.pump(nic)
	return ns
}

func tap(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	return fd, unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

// pump carries frames between the queue and a NIC until the test ends.
func (g *guest) pump(nic int) {
	var end [2]int
	if err := unix.Pipe2(end[:], unix.O_CLOEXEC); err != nil {
		g.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			fds := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}, {Fd: int32(nic), Events: unix.POLLIN}, {Fd: int32(end[0]), Events: unix.POLLHUP}}
			_, _ = unix.Poll(fds, -1)
			if fds[2].Revents != 0 {
				return
			}
			for _, way := range [][2]int{{g.fd, nic}, {nic, g.fd}} {
				if n, err := unix.Read(way[0], buf); err == nil {
					_, _ = unix.Write(way[1], buf[:n])
				}
			}
		}
	}()
	g.t.Cleanup(func() {
		_ = unix.Close(end[1])
		<-done
		_ = unix.Close(end[0])
		_ = unix.Close(nic)
	})
}

func run(t *testing.T, n *testkit.Netns, name string, args ...string) {
	t.Helper()
	if out, err := n.Command(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

func TestVMALinuxGuestInModeL3NeedsNoStaticNeighbour(t *testing.T) {
	testkit.Require(t, "vm")
	host, out, room := testkit.NewNetns(t), testkit.NewNetns(t), mute(t)
	wire(t, host, out)
	var guests []*testkit.Netns
	for i, addrs := range [][]string{{"198.51.100.9", "2001:db8:9::9"}, {"198.51.100.10", "2001:db8:9::a"}} {
		g := l3Guest(t, host, room, []string{"g0", "g1"}[i], addrs[0], addrs[1])
		g.answer()
		guests = append(guests, g.linux([]string{addrs[0] + "/24", addrs[1] + "/64"}, []string{"198.51.100.1", "fe80::1"}))
	}
	for _, to := range []string{"192.0.2.77", "2001:db8::77", "198.51.100.10", "2001:db8:9::a"} { // by the gateway, on the link
		run(t, guests[0], "ping", "-n", "-c", "1", "-w", "20", to)
	}
	for _, from := range []string{"198.51.100.9", "2001:db8:9::9"} {
		run(t, out, "ping", "-n", "-c", "1", "-w", "20", from)
	}
	neigh, err := guests[0].Command(t.Context(), "ip", "neigh", "show", "198.51.100.1").CombinedOutput()
	if err != nil || !strings.Contains(string(neigh), MAC.String()) {
		t.Errorf("its gateway is %s, %v", neigh, err)
	}
}
