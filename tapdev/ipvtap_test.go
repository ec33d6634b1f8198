package tapdev

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// shared is NIC net0 of VM "vm<n>" with the uplink's MAC.
func (l *lab) shared(n int, mode vmnetd.Mode, flag string) Spec {
	s := l.spec(n, mode)
	s.MAC, s.Flag = l.u0.MAC, flag
	return s
}

// box is the shared one of a namespace.
func (l *lab) box(n int, mode vmnetd.Mode, flag string) Spec {
	s := l.shared(n, mode, flag)
	s.Kind, s.Queues = vmnetd.Ipvlan, 0
	return s
}

func TestVMIpvtapAndIpvlanAreMadeAsAskedAndReadBack(t *testing.T) {
	testkit.Require(t, "vm")
	for _, mode := range []vmnetd.Mode{vmnetd.L2, vmnetd.L3} {
		for _, flag := range []string{"", "bridge", "private", "vepa"} {
			l := newLab(t, nil)
			s, e := l.shared(1, mode, flag), l.box(2, mode, flag)
			s.Queues, s.MTU = 4, 1400
			dev, end := l.ensure(t, s), l.ensure(t, e)
			link := l.ns.Link(t, s.Ifname)
			link.Data, link.PermMAC = nil, nil
			want := rtnl.Link{
				Index: dev.Ifindex, Name: s.Ifname, Kind: "ipvtap", Lower: l.u0.Index, LowerHere: true, MAC: l.u0.MAC, MTU: 1400,
				AllMulti: true, Inet6: true, AddrGenNone: true, Alias: "vmnetd:vm1/net0", Group: Group, Queues: 4, Mode: string(mode), Flag: s.flag(),
			}
			if got := fmt.Sprintf("%+v", link); got != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %s\nwant %+v", got, want)
			}
			if dev.Kind != vmnetd.Ipvtap || dev.Mode != mode || dev.Flag != s.flag() || dev.Rdev == 0 || dev.Queues != 4 {
				t.Errorf("returned %+v", dev)
			}
			if now := l.ns.Link(t, e.Ifname); now.Kind != "ipvlan" || now.Mode != string(mode) || now.Flag != s.flag() || now.AllMulti || end.Rdev != 0 || end.Queues != 0 {
				t.Errorf("%+v is %+v", end, now)
			}
			for _, again := range []Spec{s, e} {
				if now := l.ensure(t, again); now.Ifindex != dev.Ifindex && now.Ifindex != end.Ifindex {
					t.Errorf("made anew: %+v", now)
				}
			}
			if err := l.Remove(t.Context(), dev, end); err != nil || len(ports(t, l.ns)) > 0 {
				t.Errorf("%v, left %v", err, ports(t, l.ns))
			}
		}
	}
}

// TestVMDevicesOfOneUplinkHaveOneModeAndFlag: the kernel would turn all of them
// over, without a word.
func TestVMDevicesOfOneUplinkHaveOneModeAndFlag(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t, nil)
	dev := l.ensure(t, l.shared(1, vmnetd.L2, "private"))
	for part, s := range map[string]Spec{
		"l3 on u0 with the flag private: vm1/net0": l.shared(2, vmnetd.L3, "private"),
		"flag bridge: vm1/net0":                    l.shared(2, vmnetd.L2, ""),
		"ipvlan l2 on u0 with the flag vepa":       l.box(2, vmnetd.L2, "vepa"),
		"there with other properties: mode l2":     l.shared(1, vmnetd.L3, "private"),
		"flag private, not vepa":                   l.shared(1, vmnetd.L2, "vepa"),
		"stands on it (ipvtap)":                    l.spec(2, vmnetd.Bridge),
	} {
		_, err := l.Ensure(t.Context(), s)
		says(t, err, vmnetd.ErrBusy, part, "vm1/net0")
	}
	other := l.shared(2, vmnetd.L2, "private")
	other.MAC = mac(2)
	_, err := l.Ensure(t.Context(), other)
	says(t, err, vmnetd.ErrBusy, mac(2).String(), l.u0.MAC.String())
	says(t, l.SetFilter(t.Context(), dev, mac(2), nil, true), vmnetd.ErrBusy, "vm1/net0", mac(2).String())
	if now := l.ns.Link(t, dev.Ifname); now.Mode != "l2" || now.Flag != "private" || len(ports(t, l.ns)) != 1 {
		t.Errorf("%+v, devices %v", now, ports(t, l.ns))
	}
	if err := l.Remove(t.Context(), dev); err != nil {
		t.Fatal(err)
	}
	l.ensure(t, l.shared(2, vmnetd.L3, "vepa"))
}

func TestVMNoKindIsLacking(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t, nil)
	if lacking := l.Lacking(t.Context()); len(lacking) > 0 {
		t.Errorf("%v", lacking)
	}
}

// TestKernelThatLacksAKindSaysWhich: what is lacking is what cannot be made.
func TestKernelThatLacksAKindSaysWhich(t *testing.T) {
	l := newLab(t, nil)
	lacking := l.Lacking(t.Context())
	for _, s := range []Spec{l.shared(1, vmnetd.L2, ""), l.box(2, vmnetd.L2, "")} {
		_, err := l.Ensure(t.Context(), s)
		if why := lacking[s.must().name]; why == "" && err != nil {
			t.Errorf("%s is not lacking, but: %v", s.must().name, err)
		} else if why != "" {
			says(t, err, vmnetd.ErrUnsupported, "this kernel has no "+string(s.must().name), why)
		}
	}
	for _, k := range kinds {
		if have := l.found.kinds[k.name]; have == (lacking[k.name] != "") {
			t.Errorf("%s is lacking and remembered, or neither: %v", k.name, lacking)
		}
	}
}

// ipv4 is a UDP packet (RFC 768) with a text, in a frame.
func ipv4(dst, src net.HardwareAddr, to, from net.IP, text string) []byte {
	p := make([]byte, 28, 28+len(text))
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(text)))
	copy(p[12:], from.To4())
	copy(p[16:], to.To4())
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(p[22:], 9)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(text)))
	b := append(append(append([]byte{}, dst...), src...), 8, 0)
	return append(append(b, p...), text...)
}

// gets waits until a text comes out of one of the queues, and says whether another
// one came before it.
func gets(t *testing.T, queues []int, text, other string) (before bool) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(testkit.Patience); time.Now().Before(deadline); {
		var poll []unix.PollFd
		for _, fd := range queues {
			poll = append(poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
		_, _ = unix.Poll(poll, 100)
		for _, fd := range queues {
			n, _ := unix.Read(fd, buf)
			before = before || n > 0 && bytes.Contains(buf[:n], []byte(other))
			if n > 0 && bytes.Contains(buf[:n], []byte(text)) {
				return before
			}
		}
	}
	t.Fatalf("%q never came", text)
	return false
}

// TestVMQueuesOfAnIpvtapCarryWhatIsForItsAddress: what no address of its is for
// reaches no queue (drivers/net/ipvlan/ipvlan_core.c, ipvlan_addr_lookup).
func TestVMQueuesOfAnIpvtapCarryWhatIsForItsAddress(t *testing.T) {
	testkit.Require(t, "vm")
	guest, outside := net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 9)
	for _, mode := range []vmnetd.Mode{vmnetd.L2, vmnetd.L3} {
		for _, queues := range []int{1, 4} {
			l := newLab(t, nil)
			ip(t, l.ns, "addr", "add", "192.0.2.254/24", "dev", "u0")
			ip(t, l.ns, "neigh", "add", "192.0.2.9", "lladdr", l.out.Link(t, "far0").MAC.String(), "dev", "u0")
			s := l.shared(1, mode, "")
			s.Queues, s.ByName = queues, true
			dev := l.ensure(t, s)
			l.isNodeOf(t, dev)
			set := l.open(t, dev)
			if len(set.Queues) != queues {
				t.Fatalf("%d queues, want %d", len(set.Queues), queues)
			}
			if err := l.SetUp(t.Context(), dev, true); err != nil {
				t.Fatal(err)
			}
			l.ns.WaitRunning(t, dev.Ifname)
			far, farMAC := l.out.OpenWire(t, "far0"), l.out.Link(t, "far0").MAC
			far.SendBytes(t, ipv4(l.u0.MAC, farMAC, guest, outside, "too early"))
			ip(t, l.ns, "addr", "add", "192.0.2.1/32", "dev", dev.Ifname)
			far.SendBytes(t, ipv4(l.u0.MAC, farMAC, guest, outside, "to the guest"))
			if gets(t, set.Queues, "to the guest", "too early") {
				t.Errorf("%s: a packet came before its address was there", mode)
			}
			heard := l.out.Sniff(t, "far0", unix.ETH_P_IP)
			for i, fd := range set.Queues {
				text := fmt.Sprint("from queue ", i)
				testkit.TapWire(fd, 10).SendBytes(t, ipv4(farMAC, l.u0.MAC, outside, guest, text))
				if f, ok := heard.Next(t, testkit.Patience); !ok || !bytes.Contains(f.Bytes, []byte(text)) {
					t.Errorf("%s: nothing comes out of queue %d: %v %q", mode, i, ok, f.Bytes)
				}
			}
			l.heldBy(t, dev, os.Getpid())
			link := l.ns.Link(t, dev.Ifname)
			if text, err := findCharDev(link); err != nil {
				t.Error(err)
			} else if rdev, err := parseRdev(text); err != nil || rdev != dev.Rdev {
				t.Errorf("found %s, want %x: %v", text, dev.Rdev, err)
			}
		}
	}
}

// TestVMMovedDeviceIsOursInItsNamespaceUnderAnyName: its lower device is in another
// namespace now, which Linux 6.1 does not say of an ipvlan (it has no get_link_net),
// and its name is its namespace's to choose.
func TestVMMovedDeviceIsOursInItsNamespaceUnderAnyName(t *testing.T) {
	testkit.Require(t, "vm")
	l, room := newLab(t, nil), testkit.NewNetns(t)
	there := New(room.Conn(), nil, nil)
	t.Cleanup(func() { _ = there.Close() })
	dev := l.ensure(t, l.shared(1, vmnetd.L2, ""))
	l.ns.Set(t, dev.Ifname, rtnl.NetNS(room.NS()))
	moved, err := there.Find(t.Context(), dev.Ifname)
	if err != nil || moved.Lower != l.u0.Index || moved.Rdev == 0 || moved.Kind != vmnetd.Ipvtap || moved.Mode != vmnetd.L2 || moved.Flag != "bridge" {
		t.Fatalf("%+v, %v", moved, err)
	}
	room.Set(t, dev.Ifname, rtnl.Name("eth0"))
	moved.Ifname = "eth0"
	if err := there.SetUp(t.Context(), moved, true); err != nil || !room.Link(t, "eth0").Up {
		t.Error(err)
	}
	if err := there.Remove(t.Context(), moved); err != nil || len(ports(t, room)) > 0 {
		t.Errorf("%v, left %v", err, ports(t, room))
	}
}
