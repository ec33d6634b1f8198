package learn

import (
	"encoding/binary"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Programs of classic BPF (Documentation/networking/filter.rst). They are put
// together from blocks, each of which ends with a return, so that a jump leaves out
// a block or one return and nobody counts.

// anyGuest passes what matters of a guest of which nothing is known.
func anyGuest() []bpf.Instruction {
	return slices.Concat(untagged(), packets([]uint32{opRequest, opReply}, []uint32{solicitation, advertisement}, []uint32{serverPort, clientPort}))
}

// oneGuest passes what a guest with that MAC sends, and what answers it: those who
// have an address defend it with an ARP reply or an advertisement, and DHCP servers
// send to the client's port.
func oneGuest(m hardware, sendsOutgoing bool) []bpf.Instruction {
	sent := slices.Concat(
		[]bpf.Instruction{bpf.LoadAbsolute{Off: 6, Size: 4}}, oneOf(binary.BigEndian.Uint32(m[:4])),
		[]bpf.Instruction{bpf.LoadAbsolute{Off: 10, Size: 2}}, oneOf(uint32(binary.BigEndian.Uint16(m[4:]))),
		packets([]uint32{opRequest, opReply}, []uint32{solicitation, advertisement}, []uint32{serverPort}))
	came := packets([]uint32{opReply}, []uint32{advertisement}, []uint32{clientPort})
	out, in := came, sent
	if sendsOutgoing {
		out, in = sent, came
	}
	return slices.Concat(untagged(), []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtType}}, when(unix.PACKET_OUTGOING, out), in)
}

// serverAnswers passes what DHCP servers send to clients.
func serverAnswers() []bpf.Instruction {
	block := udp([]uint32{clientPort}, []bpf.Instruction{bpf.LoadIndirect{Off: etherHeader, Size: 2}}, oneOf(serverPort))
	return slices.Concat(untagged(), []bpf.Instruction{bpf.LoadAbsolute{Off: 12, Size: 2}}, when(etherIPv4, block), drop())
}

// packets passes ARP, ND and DHCP of those kinds.
func packets(arpOps, ndTypes, ports []uint32) []bpf.Instruction {
	arp := slices.Concat([]bpf.Instruction{bpf.LoadAbsolute{Off: etherHeader + 6, Size: 2}}, oneOf(arpOps...), pass())
	nd := slices.Concat(
		[]bpf.Instruction{bpf.LoadAbsolute{Off: etherHeader + 6, Size: 1}}, oneOf(protoICMPv6),
		[]bpf.Instruction{bpf.LoadAbsolute{Off: etherHeader + ipv6Header, Size: 1}}, oneOf(ndTypes...), pass())
	return slices.Concat(
		[]bpf.Instruction{bpf.LoadAbsolute{Off: 12, Size: 2}},
		when(etherIPv4, udp(ports)), when(etherIPv6, nd), when(etherARP, arp), drop())
}

// udp passes UDP over IPv4 to one of those ports that is no fragment; more follows
// the look at the port.
func udp(ports []uint32, more ...[]bpf.Instruction) []bpf.Instruction {
	return slices.Concat(
		[]bpf.Instruction{bpf.LoadAbsolute{Off: etherHeader + 9, Size: 1}}, oneOf(protoUDP),
		[]bpf.Instruction{
			bpf.LoadAbsolute{Off: etherHeader + 6, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: moreFragments | fragmentOffset, SkipFalse: 1}, bpf.RetConstant{},
			bpf.LoadMemShift{Off: etherHeader},
			bpf.LoadIndirect{Off: etherHeader + 2, Size: 2},
		}, oneOf(ports...), slices.Concat(more...), pass())
}

// untagged goes on with frames that have no VLAN tag: one that the kernel took out
// is shown by this alone, one inside the frame is another EtherType.
func untagged() []bpf.Instruction {
	return append([]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}}, oneOf(0)...)
}

// oneOf goes on when what was loaded is one of the values.
func oneOf(values ...uint32) []bpf.Instruction {
	var list []bpf.Instruction
	for i, v := range values {
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return append(list, bpf.RetConstant{})
}

// when runs a block, which returns, for one value, and goes on for others with the
// value still loaded.
func when(value uint32, block []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipFalse: uint8(len(block))}}, block...)
}

func pass() []bpf.Instruction { return []bpf.Instruction{bpf.RetConstant{Val: snap}} }
func drop() []bpf.Instruction { return []bpf.Instruction{bpf.RetConstant{}} }
