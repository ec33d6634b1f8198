package nexthop

import (
	"encoding/binary"
	"net"

	"github.com/cilium/ebpf/asm"
)

// What the program returns (uapi/linux/pkt_cls.h): other filters have their say
// about whatever it does not turn round.
const (
	actUnspec = -1
	actShot   = 2
)

// Fields of struct __sk_buff (uapi/linux/bpf.h).
const (
	skbLen     = 0
	skbIfindex = 40
)

// redirectIngress is BPF_F_INGRESS: the frame comes in at the device, where its rx
// handler gives it to the queue.
const redirectIngress = 1

// Places on the stack, from the frame pointer.
const (
	header  = -16  // the frame's Ethernet header, 14 bytes
	scratch = -24  // what is looked at, 8 bytes
	reply   = -72  // an ARP reply, or the beginning of a neighbour advertisement
	pseudo  = -144 // IPv6's pseudo-header (RFC 8200 8.1), 40 bytes, then the ICMPv6 message
	message = pseudo + 40
)

// Sizes in bytes.
const (
	arpFrame  = 14 + 28
	advertise = 32 // RFC 4861 4.4 with the option of 4.6.1
	naFrame   = 14 + 40 + advertise
)

// program turns round what a guest asks (RFC 826; RFC 4861 7.2), at the egress of
// its device. Frames that the guest then sends to MAC get the uplink's own MAC, which
// is the guest's too: a device in mode l3 gives a frame for another guest of the
// uplink to that one as it is (ipvlan_core.c, ipvlan_rcv_frame), and a NIC takes in
// only what is addressed to it.
func program(mac net.HardwareAddr) asm.Instructions {
	var p asm.Instructions
	add := func(parts ...asm.Instructions) {
		for _, part := range parts {
			p = append(p, part...)
		}
	}
	add(
		begin(),
		sent(mac),
		named("arp", answerARP(mac)),
		named("nd", answerND(mac)),
		named("turn", asm.Instructions{
			asm.LoadMem(asm.R1, asm.R6, skbIfindex, asm.Word),
			asm.Mov.Imm(asm.R2, redirectIngress),
			asm.FnRedirect.Call(),
			asm.Return(),
		}),
		named("pass", result(actUnspec)),
		named("drop", result(actShot)),
	)
	return p
}

// begin tells what kind of frame it is.
func begin() asm.Instructions {
	return join(
		asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)},
		load(0, header, 14),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, header+12, asm.Half),
			asm.JEq.Imm(asm.R1, be16(0x0806), "arp"),
			asm.JEq.Imm(asm.R1, be16(0x86dd), "nd"),
		},
	)
}

// sent is what is no question, and every question that is not answered.
func sent(mac net.HardwareAddr) asm.Instructions {
	return join(
		named("sent", asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, header, asm.Word),
			asm.JNE.Imm(asm.R1, be32(mac[:4]), "pass"),
			asm.LoadMem(asm.R1, asm.RFP, header+4, asm.Half),
			asm.JNE.Imm(asm.R1, be16(binary.BigEndian.Uint16(mac[4:])), "pass"),
		}),
		store(0, header+6, 6),
		asm.Instructions{asm.Ja.Label("pass")},
	)
}

// answerARP: no probe (sender 0.0.0.0, RFC 5227 2.1.1), and nothing that the guest
// says or asks about its own address.
func answerARP(mac net.HardwareAddr) asm.Instructions {
	const sender, target = reply + 38, reply + 28
	return join(
		load(14, scratch, 8),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, scratch, asm.Word),
			asm.JNE.Imm(asm.R1, be32([]byte{0, 1, 8, 0}), "sent"), // Ethernet, IPv4
			asm.LoadMem(asm.R1, asm.RFP, scratch+4, asm.Word),
			asm.JNE.Imm(asm.R1, be32([]byte{6, 4, 0, 1}), "sent"), // a request
		},
		load(38, reply+28, 4),
		load(22, reply+32, 10),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, sender, asm.Half),
			asm.LoadMem(asm.R2, asm.RFP, sender+2, asm.Half),
			asm.LoadMem(asm.R3, asm.RFP, target, asm.Half),
			asm.LoadMem(asm.R4, asm.RFP, target+2, asm.Half),
		},
		neitherZeroNorEqual(),
		load(6, reply, 6),
		put(reply+6, mac, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 2}, mac),
		store(0, reply, arpFrame),
		asm.Instructions{asm.Ja.Label("turn")},
	)
}

// answerND: no duplicate address detection (source ::, RFC 4862 5.4.2). The answer
// is that of a router: a host that follows RFC 4861 7.3.3 drops a default route
// over one that says it is none.
func answerND(mac net.HardwareAddr) asm.Instructions {
	return join(
		isSolicitation(),
		load(62, pseudo, 16),
		load(22, pseudo+16, 16),
		load(62, message+8, 16),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, pseudo, asm.Byte),
			asm.JEq.Imm(asm.R1, 0xff, "sent"), // asks for a group
			asm.LoadMem(asm.R1, asm.RFP, pseudo+16, asm.DWord),
			asm.LoadMem(asm.R2, asm.RFP, pseudo+24, asm.DWord),
			asm.LoadMem(asm.R3, asm.RFP, pseudo, asm.DWord),
			asm.LoadMem(asm.R4, asm.RFP, pseudo+8, asm.DWord),
		},
		neitherZeroNorEqual(),
		put(pseudo+32, []byte{0, 0, 0, advertise, 0, 0, 0, 58}),
		put(message, []byte{136, 0, 0, 0, 0xe0, 0, 0, 0}), // router, solicited, override
		put(message+24, []byte{2, 1}, mac),                // target link-layer address
		checksum(),
		resize(),
		load(6, reply, 6),
		put(reply+6, mac, []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, advertise, 58, 255}),
		store(0, reply, 22),
		store(22, pseudo, 32),
		store(54, message, advertise),
		asm.Instructions{asm.Ja.Label("turn")},
	)
}

// isSolicitation: ICMPv6 right behind the header, hop limit 255, type 135, code 0
// (RFC 4861 7.1.1).
func isSolicitation() asm.Instructions {
	return join(
		load(20, scratch, 2),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, scratch, asm.Half),
			asm.JNE.Imm(asm.R1, be16(58<<8|255), "sent"),
		},
		load(54, scratch, 2),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, scratch, asm.Half),
			asm.JNE.Imm(asm.R1, be16(135<<8), "sent"),
		},
	)
}

// neitherZeroNorEqual goes on where the address in R1 and R2 is one, and another
// than that in R3 and R4.
func neitherZeroNorEqual() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R5, asm.R1),
		asm.Or.Reg(asm.R5, asm.R2),
		asm.JEq.Imm(asm.R5, 0, "sent"),
		asm.Xor.Reg(asm.R1, asm.R3),
		asm.Xor.Reg(asm.R2, asm.R4),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.JEq.Imm(asm.R1, 0, "sent"),
	}
}

// checksum sums the pseudo-header and the message, whose own field is zero
// (RFC 1071), and puts the sum there.
func checksum() asm.Instructions {
	fold := asm.Instructions{
		asm.Mov.Reg32(asm.R1, asm.R0),
		asm.RSh.Imm(asm.R1, 16),
		asm.And.Imm(asm.R0, 0xffff),
		asm.Add.Reg(asm.R0, asm.R1),
	}
	return join(
		asm.Instructions{
			asm.Mov.Imm(asm.R1, 0),
			asm.Mov.Imm(asm.R2, 0),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, pseudo),
			asm.Mov.Imm(asm.R4, 40+advertise),
			asm.Mov.Imm(asm.R5, 0),
			asm.FnCsumDiff.Call(),
		},
		fold, fold,
		asm.Instructions{
			asm.Xor.Imm(asm.R0, 0xffff),
			asm.StoreMem(asm.RFP, message+2, asm.R0, asm.Half),
		},
	)
}

// resize gives the frame the size of the answer: the question may have come without
// an option, or with more.
func resize() asm.Instructions {
	return join(
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.R6, skbLen, asm.Word),
			asm.JEq.Imm(asm.R1, naFrame, "sized"),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, naFrame),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnSkbChangeTail.Call(),
			asm.JNE.Imm(asm.R0, 0, "sent"),
		},
		named("sized", asm.Instructions{asm.Mov.Imm(asm.R0, 0)}),
	)
}
