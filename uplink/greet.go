package uplink

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// greeter tells the neighbours where addresses of the host are now: a
// gratuitous ARP request (RFC 5227, section 3) or an unsolicited neighbour
// advertisement (RFC 4861, 7.2.6) each.
type greeter struct{ conn *rtnl.Conn }

// greeting is how long looking up one device may take.
const greeting = 2 * time.Second

func (g greeter) announce(ifindex int, addrs []netip.Prefix) {
	ctx, cancel := context.WithTimeout(context.Background(), greeting)
	defer cancel()
	l, err := g.conn.LinkByIndex(ctx, ifindex)
	if err != nil || len(l.MAC) != 6 {
		return // it has gone, or has no Ethernet under it
	}
	_ = g.conn.Do(func() error { return sendFrames(l, addrs) }) // nobody waits for it; the host's own traffic tells as well
}

func sendFrames(l rtnl.Link, addrs []netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, p := range addrs {
		ether, frame := uint16(etherARP), arpRequest(l.MAC, p.Addr(), p.Addr())
		if p.Addr().Is6() {
			ether, frame = etherIPv6, advertisement(l.MAC, p.Addr())
		}
		to := &unix.SockaddrLinklayer{Protocol: bigEndian(ether), Ifindex: l.Index}
		if err := unix.Sendto(fd, frame, 0, to); err != nil {
			return err
		}
	}
	return nil
}

// advertisement says to all nodes that an address is at mac, overriding what
// they knew.
func advertisement(mac net.HardwareAddr, addr netip.Addr) []byte {
	const override = 0x20
	all := netip.MustParseAddr("ff02::1")
	body := glue([]byte{ndNA, 0, 0, 0, override, 0, 0, 0}, addr.AsSlice(), []byte{2, 1}, mac) // option 2: target link-layer address
	pseudo := glue(addr.AsSlice(), all.AsSlice(), []byte{0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6}, body)
	binary.BigEndian.PutUint16(body[2:], internetSum(pseudo))
	return glue(
		[]byte{0x33, 0x33, 0, 0, 0, 1}, mac, []byte{0x86, 0xdd},
		[]byte{0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255}, addr.AsSlice(), all.AsSlice(), body,
	)
}
