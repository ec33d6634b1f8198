package filter

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

const (
	protoTCP = 6
)

func ether(dst, src net.HardwareAddr, kind uint16, payload []byte) []byte {
	return slices.Concat(dst, src, be16(int(kind)), payload)
}

// tagged puts a tag behind the addresses of a frame.
func tagged(kind uint16, vid int, frame []byte) []byte {
	return slices.Concat(frame[:12], be16(int(kind)), be16(vid), frame[12:])
}

func arpFrame(dst, src net.HardwareAddr, op int, sha net.HardwareAddr, spa netip.Addr, tpa netip.Addr) []byte {
	body := slices.Concat([]byte{0, 1, 8, 0, 6, 4}, be16(op), sha, spa.AsSlice(), make([]byte, 6), tpa.AsSlice())
	return ether(dst, src, 0x0806, append(body, make([]byte, 18)...))
}

func ip4(src, dst netip.Addr, proto byte, payload []byte) []byte {
	return ip4At(src, dst, proto, 0, payload)
}

func ip4At(src, dst netip.Addr, proto byte, fragment uint16, payload []byte) []byte {
	h := slices.Concat([]byte{0x45, 0}, be16(20+len(payload)), []byte{0, 1}, be16(int(fragment)), []byte{64, proto, 0, 0}, src.AsSlice(), dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return append(h, payload...)
}

func ip6(src, dst netip.Addr, next byte, payload []byte) []byte {
	return slices.Concat([]byte{0x60, 0, 0, 0}, be16(len(payload)), []byte{next, 255}, src.AsSlice(), dst.AsSlice(), payload)
}

func udp(sport, dport int, payload []byte) []byte {
	return slices.Concat(be16(sport), be16(dport), be16(8+len(payload)), []byte{0, 0}, payload)
}

func icmp6Of(kind byte, body ...[]byte) []byte {
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, slices.Concat(body...)...)
}

func ndOption(kind byte, value []byte) []byte {
	return append([]byte{kind, byte((len(value) + 2) / 8)}, value...)
}
