package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// header is the bytes of the virtio-net header before a frame
// (uapi/linux/virtio_net.h, struct virtio_net_hdr).
const header = 10

const (
	smallFrame = 60          // without the checksum: the shortest that Ethernet has
	mss        = 1448        // what a TCP of Linux sends at an MTU of 1500
	segment    = 44*mss + 54 // what a guest hands over as one, to be cut up
)

// Bytes that are no payload: virtio-net, Ethernet, IPv4, and UDP or TCP.
const (
	smallHeads = header + 14 + 20 + 8
	largeHeads = header + 14 + 20 + 20
)

// station is one end of a path.
type station struct {
	mac net.HardwareAddr
	ip  netip.Addr
}

// small is a UDP datagram in the shortest frame; port tells flows apart.
func small(from, to station, port uint16) []byte {
	udp := slices.Concat(be16(port), be16(9), be16(smallFrame-34), be16(0), make([]byte, smallFrame-42))
	return slices.Concat(make([]byte, header), frame(from, to, unix.IPPROTO_UDP, udp))
}

// large is a TCP segment that is cut up on its way, or never, if both ends can
// take it whole (VIRTIO_NET_HDR_GSO_TCPV4).
func large(from, to station, port uint16) []byte {
	const ack = 0x10
	tcp := slices.Concat(be16(port), be16(9), make([]byte, 8), []byte{5 << 4, ack, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, segment-54))
	vnet := slices.Concat([]byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_TCPV4}, le16(54), le16(mss), le16(34), le16(16))
	return slices.Concat(vnet, frame(from, to, unix.IPPROTO_TCP, tcp))
}

func frame(from, to station, protocol byte, payload []byte) []byte {
	ip := slices.Concat([]byte{0x45, 0}, be16(uint16(20+len(payload))), []byte{0, 0, 0x40, 0, 64, protocol, 0, 0}, from.ip.AsSlice(), to.ip.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return slices.Concat(to.mac, from.mac, be16(unix.ETH_P_IP), ip, payload)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// le16 is how the header has its numbers on this machine (unless
// TUNSETVNETBE said otherwise).
func le16(n uint16) []byte { return binary.NativeEndian.AppendUint16(nil, n) }
