package announce

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"testing"
)

var guest = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}

func TestFramesAreAsTheStandardsHaveThem(t *testing.T) {
	list := frames([]Address{{MAC: guest, Ifindex: 7, IPs: []netip.Addr{
		netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("::ffff:192.0.2.8"),
	}}})
	want := []string{
		"ffffffffffff525400010203" + "8035" + "0001080006040003" + "525400010203" + "00000000" + "525400010203" + "00000000",
		"ffffffffffff525400010203" + "0806" + "0001080006040001" + "525400010203" + "c0000207" + "000000000000" + "c0000207",
		"333300000001525400010203" + "86dd" + "6000000000203aff" + "20010db8000000000000000000000007" + "ff020000000000000000000000000001" + "8800",
		"ffffffffffff525400010203" + "0806" + "0001080006040001" + "525400010203" + "c0000208" + "000000000000" + "c0000208",
	}
	if len(list) != len(want) {
		t.Fatalf("%d frames", len(list))
	}
	for i, w := range want {
		if got := hex.EncodeToString(list[i].bytes); got[:len(w)] != w || len(list[i].bytes) < shortest || list[i].ifindex != 7 {
			t.Errorf("frame %d: %s, want %s...", i, got, w)
		}
	}
	if got := hex.EncodeToString(list[2].bytes[54:]); got[:4] != "8800" || got[8:] != "20000000"+"20010db8000000000000000000000007"+"0201"+"525400010203" {
		t.Errorf("neighbour advertisement: %s", got)
	}
}

func TestEveryGuestsSwitchesComeBeforeAnybodysNeighbours(t *testing.T) {
	ip := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	other := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	list := frames([]Address{{MAC: guest, IPs: ip}, {MAC: other, IPs: ip}})
	first := func(f frame) bool { return f.first }
	if len(list) != 4 || !first(list[0]) || !first(list[1]) || slices.ContainsFunc(list[2:], first) {
		t.Errorf("%+v", list)
	}
}

// FuzzFrames has a receiver's look at what is built from any MAC and address.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x52, 0x54, 0, 1, 2, 3}, []byte{192, 0, 2, 7})
	f.Add([]byte{2, 0xff, 0xff, 0xff, 0xff, 0xff}, netip.MustParseAddr("fe80::ffff").AsSlice())
	f.Fuzz(func(t *testing.T, mac, address []byte) {
		ip, ok := netip.AddrFromSlice(address)
		if !ok || len(mac) != 6 {
			return
		}
		for _, frame := range frames([]Address{{MAC: mac, IPs: []netip.Addr{ip}}}) {
			b := frame.bytes
			if len(b) < shortest || !bytes.Equal(b[6:12], mac) || b[0]&1 == 0 {
				t.Fatalf("%x", b)
			}
			if b[12] != 0x86 {
				continue
			}
			// The sum over pseudo header and message, checksum included, is zero.
			if sum := checksum(append(append(bytes.Clone(b[22:54]), 0, 0, 0, 32, 0, 0, 0, 58), b[54:]...)); sum != 0 || len(b) != 86 {
				t.Fatalf("checksum is off by %04x: %x", sum, b)
			}
		}
	})
}
