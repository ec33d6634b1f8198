package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// portHost is a rig whose host has one uplink, on one port of a switch:
//
//	host u0 ── port [bridge sw] sw-peer ── peer0
type portHost struct {
	*rig
	client *dbusapi.Client
}

// Addresses of the host and of peer0.
const (
	hostAddress  = "192.0.2.2"
	hostAddress6 = "2001:db8::2"
	peerAddress  = testkit.PeerAddress
	peerAddress6 = "2001:db8::1"
)

// newPortHost builds it; the daemon is not started.
func newPortHost(t *testing.T, config string) *portHost {
	t.Helper()
	net := &testkit.Switches{Host: testkit.NewNetns(t), Net: testkit.NewNetns(t), Peer: testkit.NewNetns(t)}
	for _, n := range []*testkit.Netns{net.Host, net.Net} {
		n.IPv6(t, false)
	}
	net.Net.Create(t, rtnl.NewLink{Name: "sw", Kind: "bridge"})
	net.Net.SetUp(t, "sw")
	testkit.NewVeth(t, net.Host, "u0", net.Net, "port")
	testkit.NewVeth(t, net.Peer, "peer0", net.Net, "sw-peer")
	for _, port := range []string{"port", "sw-peer"} {
		net.Net.Set(t, port, rtnl.Master(net.Net.Link(t, "sw").Index))
	}
	net.Host.Run(t, "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/u0/disable_ipv6")
	for _, a := range []struct {
		n       *testkit.Netns
		device  string
		address []string
	}{
		{net.Host, "u0", []string{hostAddress + "/24", hostAddress6 + "/64"}}, {net.Peer, "peer0", []string{peerAddress + "/24", peerAddress6 + "/64"}},
	} {
		for _, ip := range a.address {
			a.n.Run(t, "ip", "address", "add", ip, "dev", a.device, "nodad")
		}
	}
	h := &portHost{rig: &rig{t: t, net: net, bus: testkit.NewBus(t), dir: t.TempDir()}}
	t.Cleanup(func() {
		h.kill()
		testkit.EndProcesses(t, h.dir) // the one that holds vmnetd's own namespace
	})
	h.configure(config)
	return h
}

// vmPortHost is one in the VM tier, whose kernel has ipvtap, and its daemon runs.
func vmPortHost(t *testing.T, config string) *portHost {
	t.Helper()
	testkit.Require(t, "vm")
	h := newPortHost(t, config)
	h.start()
	return h
}

// again kills the daemon and starts it again.
func (h *portHost) again() {
	h.t.Helper()
	h.kill()
	h.client = nil
	h.start()
}

// gone ends a VM and waits until its NIC has gone.
func (h *portHost) gone(guests ...*guestOf) {
	h.t.Helper()
	for _, g := range guests {
		g.end()
	}
	for _, g := range guests {
		h.eventually(g.vm+" has no NIC", func() bool {
			list, err := h.dial().List(h.t.Context(), g.vm)
			return err == nil && len(list) == 0
		})
	}
}

// dial connects to the daemon, once.
func (h *portHost) dial() *dbusapi.Client {
	h.t.Helper()
	if h.client != nil {
		return h.client
	}
	h.t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", h.bus.Address)
	c, err := dbusapi.Dial(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	h.client = c
	return c
}

// guestOf is a NIC with Linux behind its queues.
type guestOf struct {
	*testkit.StackGuest
	vm  string
	att vmnetd.Attachment
	end func() // of its process: the NIC goes with it

	wire *testkit.Wire // on its device
}

// wireOf sends what the guest's stack would not.
func (g *guestOf) wireOf(t *testing.T) *testkit.Wire {
	t.Helper()
	if g.wire == nil {
		g.wire = g.OpenWire(t, testkit.GuestDevice)
	}
	return g.wire
}

// guest is a VM's NIC, behind which IPv6 is as ipv6 says.
func (h *portHost) guest(vm, network string, ipv6 bool, ips ...string) *guestOf {
	h.t.Helper()
	owner := exec.Command("sleep", "infinity")
	if err := owner.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := sync.OnceFunc(func() {
		_ = owner.Process.Kill()
		_ = owner.Wait()
	})
	h.t.Cleanup(ended)
	att, set, err := h.dial().OpenTap(h.t.Context(), vmnetd.Request{VM: vm, ID: "net0", Network: network, IPs: ips, Queues: 1, NoVHost: true}, owner.Process.Pid)
	if err != nil {
		h.t.Fatal(err)
	}
	closed := sync.OnceFunc(func() { _ = set.Close() })
	h.t.Cleanup(closed)
	mac, err := vmnetd.ParseMAC(att.MAC)
	if err != nil {
		h.t.Fatal(err)
	}
	g := &guestOf{testkit.NewStackGuest(h.t, set.Queues, 10, mac, ipv6), vm, att, nil, nil}
	g.end = func() {
		g.Unplug()
		closed()
		ended()
	}
	for _, ip := range ips {
		g.has(h.t, ip)
	}
	return g
}

// has gives the guest an address, as its operator would.
func (g *guestOf) has(t *testing.T, ip string) {
	t.Helper()
	length := map[bool]string{true: "/24", false: "/64"}[netip.MustParseAddr(ip).Is4()]
	g.Run(t, "ip", "address", "add", ip+length, "dev", testkit.GuestDevice, "nodad")
}

// reaches says whether somebody is answered by an address.
func reaches(t *testing.T, from *testkit.Netns, to string, patience time.Duration) bool {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if from.Command(t.Context(), "ping", "-c", "1", "-W", "1", to).Run() == nil {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// reach holds that each address is answered.
func reach(t *testing.T, who string, from *testkit.Netns, to ...string) {
	t.Helper()
	for _, ip := range to {
		if !reaches(t, from, ip, testkit.Patience) {
			t.Errorf("%s does not reach %s", who, ip)
		}
	}
}

// now is a NIC as the daemon shows it.
func (h *portHost) now(vm string) vmnetd.Attachment {
	h.t.Helper()
	list, err := h.dial().List(h.t.Context(), vm)
	if err != nil || len(list) != 1 {
		h.t.Fatalf("NICs of %s: %+v, %v", vm, list, err)
	}
	return list[0]
}

// becomes waits until a NIC is so.
func (h *portHost) becomes(vm, what string, ok func(vmnetd.Attachment) bool) {
	h.t.Helper()
	h.eventually(vm+" "+what, func() bool { return ok(h.now(vm)) }, func() { h.t.Logf("it is %+v", h.now(vm)) })
}

// learns waits until an address of a NIC is learned, forgets until it is no more.
func (h *portHost) learns(vm string, ip fmt.Stringer) {
	h.t.Helper()
	h.becomes(vm, "learns "+ip.String(), func(a vmnetd.Attachment) bool { return slices.Contains(a.Learned, ip.String()) })
}

func (h *portHost) forgets(vm string, ip fmt.Stringer) {
	h.t.Helper()
	h.becomes(vm, "forgets "+ip.String(), func(a vmnetd.Attachment) bool { return !slices.Contains(a.Learned, ip.String()) })
}

// events is the texts of all events of a kind about a VM.
func (h *portHost) events(kind, vm string) (texts []string) {
	h.t.Helper()
	all, err := h.dial().Events(h.t.Context(), time.Time{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range all {
		if e.Event == kind && e.VM == vm {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// told waits for an event of a kind about a VM that says all of these.
func (h *portHost) told(kind, vm string, says ...string) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("%s of %s: %q", kind, vm, says), func() bool {
		return slices.ContainsFunc(h.events(kind, vm), func(text string) bool { return saysAll(text, says) })
	}, func() { h.t.Logf("told: %q", h.events(kind, vm)) })
}

func saysAll(text string, says []string) bool {
	text = strings.Join(strings.Fields(text), " ") // lines are folded
	return !slices.ContainsFunc(says, func(s string) bool { return !strings.Contains(text, s) })
}

// explains holds that explain ends with that exit code and says all of these.
func (h *portHost) explains(code int, says []string, args ...string) {
	h.t.Helper()
	out, err := h.try(append([]string{"explain"}, args...)...)
	var exit *exec.ExitError
	if got := 0; errors.As(err, &exit) || err == nil {
		if exit != nil {
			got = exit.ExitCode()
		}
		if got == code && saysAll(out, says) {
			return
		}
	}
	h.t.Errorf("explain %s: %v, want exit %d and %q\n%s", strings.Join(args, " "), err, code, says, out)
}
