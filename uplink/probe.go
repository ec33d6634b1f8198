package uplink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// probePatience is how long one question may go unanswered.
const probePatience = 500 * time.Millisecond

// probe asks an address whether it is there: who has it (ARP, RFC 826, and
// neighbour discovery, RFC 4861), or, where it lies behind a router, by an echo
// request.
func (m *Manager) probe(ctx context.Context, device string, addr netip.Addr) error {
	l, err := m.o.Conn.LinkByName(ctx, device)
	if err != nil {
		return err
	}
	hosts, err := m.o.Conn.Addrs(ctx, l.Index)
	if err != nil {
		return err
	}
	from, near := sourceFor(hosts, addr)
	ask := func() (bool, error) { return askNeighbour(l, from, addr) }
	if from.IsValid() && !near {
		ask = func() (bool, error) { return askByEcho(l, addr) }
	}
	var answered bool
	err = m.o.Conn.Do(func() error {
		var err error
		answered, err = ask()
		return err
	})
	switch {
	case err != nil:
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot probe %s on %s: %w", addr, device, err)
	case !answered:
		return vmnetd.Errorf(vmnetd.ErrFailed, "%s does not answer on %s", addr, device)
	}
	return nil
}

// sourceFor is the host's address to ask from, and whether the probed address
// is in its network. Invalid: the host has none of that family.
func sourceFor(hosts []netip.Prefix, addr netip.Addr) (from netip.Addr, near bool) {
	for _, p := range hosts {
		if p.Addr().Is4() != addr.Is4() || p.Addr().IsLinkLocalUnicast() != addr.IsLinkLocalUnicast() {
			continue
		}
		if p.Contains(addr) {
			return p.Addr(), true
		}
		from = p.Addr()
	}
	return from, false
}

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
	ndNS      = 135 // ICMPv6 types of RFC 4861
	ndNA      = 136
)

// askNeighbour sends one request on the link and waits for its answer.
func askNeighbour(l rtnl.Link, from, addr netip.Addr) (bool, error) {
	ether, frame, isAnswer := uint16(etherARP), arpRequest(l.MAC, from, addr), isARPReply
	if addr.Is6() {
		ether, frame, isAnswer = etherIPv6, solicitation(l.MAC, addr), isAdvertisement
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // hears nothing until it is bound
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Protocol: bigEndian(ether), Ifindex: l.Index}
	if err := unix.Bind(fd, to); err != nil {
		return false, err
	}
	if err := unix.Sendto(fd, frame, 0, to); err != nil {
		return false, err
	}
	return hear(fd, func(b []byte) bool { return isAnswer(b, addr) })
}

// askByEcho sends an echo request out of the device and waits for the reply.
func askByEcho(l rtnl.Link, addr netip.Addr) (bool, error) {
	family, proto, request, reply := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0)
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: addr4(addr)}
	if addr.Is6() {
		family, proto, request, reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
		to = &unix.SockaddrInet6{Addr: addr.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, l.Name); err != nil {
		return false, err
	}
	echo := []byte{request, 0, 0, 0, 'v', 'm', 0, 1}
	if addr.Is4() { // ICMPv6 checksums are the kernel's (RFC 3542, 3.1)
		binary.BigEndian.PutUint16(echo[2:], internetSum(echo))
	}
	if err := unix.Sendto(fd, echo, 0, to); err != nil {
		return false, nil // no route, or no neighbour: that is no answer
	}
	return hear(fd, func(b []byte) bool {
		if addr.Is4() && len(b) > 20 {
			b = b[int(b[0]&15)*4:] // a raw IPv4 socket gives the IP header too (raw(7))
		}
		return len(b) >= 6 && b[0] == reply && bytes.Equal(b[4:6], []byte("vm"))
	})
}

func addr4(a netip.Addr) [4]byte {
	if !a.Is4() {
		return [4]byte{}
	}
	return a.As4()
}

// hear reads until something is the answer or patience ends.
func hear(fd int, isAnswer func([]byte) bool) (bool, error) {
	buf := make([]byte, 2048)
	for end := time.Now().Add(probePatience); ; {
		left := time.Until(end)
		if left <= 0 {
			return false, nil
		}
		tv := unix.NsecToTimeval(left.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return false, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return false, fmt.Errorf("no answer can be read: %w", err)
		case isAnswer(buf[:n]):
			return true, nil
		}
	}
}

// arpRequest asks who has an address; without an address of the host's own it
// is the probe of RFC 5227, which changes nobody's tables.
func arpRequest(mac net.HardwareAddr, from, addr netip.Addr) []byte {
	sender := make([]byte, 4)
	if from.Is4() {
		sender = from.AsSlice()
	}
	return glue(
		bytes.Repeat([]byte{0xff}, 6), mac, []byte{0x08, 0x06},
		[]byte{0, 1, 0x08, 0, 6, 4, 0, 1}, mac, sender, make([]byte, 6), addr.AsSlice(),
	)
}

func isARPReply(b []byte, addr netip.Addr) bool {
	return len(b) >= 42 && b[21] == 2 && bytes.Equal(b[28:32], addr.AsSlice())
}

// solicitation asks who has an IPv6 address, from the unspecified one, so that
// the answer goes to all nodes and no address of the host is needed.
func solicitation(mac net.HardwareAddr, addr netip.Addr) []byte {
	a := addr.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
	body := glue([]byte{ndNS, 0, 0, 0, 0, 0, 0, 0}, a[:])
	pseudo := glue(make([]byte, 16), group.AsSlice(), []byte{0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6}, body)
	binary.BigEndian.PutUint16(body[2:], internetSum(pseudo))
	return glue(
		[]byte{0x33, 0x33, 0xff, a[13], a[14], a[15]}, mac, []byte{0x86, 0xdd},
		[]byte{0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255}, make([]byte, 16), group.AsSlice(), body,
	)
}

func isAdvertisement(b []byte, addr netip.Addr) bool {
	a := addr.As16()
	return len(b) >= 14+40+24 && b[14+6] == unix.IPPROTO_ICMPV6 && b[14+40] == ndNA && bytes.Equal(b[14+40+8:14+40+24], a[:])
}

// internetSum is the checksum of RFC 1071.
func internetSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// bigEndian is the order in which sockaddr_ll has its protocol (packet(7)).
func bigEndian(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

func glue(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
