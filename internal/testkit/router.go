package testkit

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// advertiseEvery is the interval of a test's router.
const advertiseEvery = time.Second

// StartRouter has a device of a namespace advertise itself as a router, with a
// prefix for SLAAC, until the test ends.
func StartRouter(t TB, n *Netns, ifname string, prefix netip.Prefix) {
	t.Helper()
	index := n.Link(t, ifname).Index
	fd := -1
	err := n.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6); err != nil {
			return err
		}
		const hops = 255 // RFC 4861 4.2
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hops)
	})
	if err != nil {
		t.Fatalf("cannot be a router on %s: %v", ifname, err)
	}
	allNodes := &unix.SockaddrInet6{Addr: netip.IPv6LinkLocalAllNodes().As16(), ZoneId: uint32(index)}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		advertise(fd, routerAdvertisement(prefix), allNodes, stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		_ = unix.Close(fd)
	})
}

func advertise(fd int, message []byte, to unix.Sockaddr, stop chan struct{}) {
	tick := time.NewTicker(advertiseEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			_ = unix.Sendto(fd, message, 0, to) // fails until the device has a link-local address
		}
	}
}

// routerAdvertisement is one of RFC 4861 4.2 with a prefix (4.6.2); the kernel
// fills in the checksum (RFC 3542 3.1).
func routerAdvertisement(prefix netip.Prefix) []byte {
	const (
		lifetime = 1800 // s
		onLink   = 1 << 7
		autonom  = 1 << 6
	)
	b := []byte{134, 0, 0, 0, 64, 0}
	b = binary.BigEndian.AppendUint16(b, lifetime)
	b = append(b, make([]byte, 8)...) // reachable time, retransmission timer: the host's own
	b = append(b, 3, 4, byte(prefix.Bits()), onLink|autonom)
	b = binary.BigEndian.AppendUint32(b, lifetime) // valid
	b = binary.BigEndian.AppendUint32(b, lifetime) // preferred
	b = append(b, make([]byte, 4)...)
	return append(b, prefix.Addr().AsSlice()...)
}
