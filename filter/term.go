package filter

import (
	"bytes"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// terms are conditions that must all hold. What cannot be read from a frame,
// because it ends before, makes a condition not hold: so what must not be evaded
// is accepted by its shape and dropped by what comes last, not the other way.
type terms []expr.Any

// all joins conditions.
func all(conditions ...terms) terms {
	var joined terms
	for _, c := range conditions {
		joined = append(joined, c...)
	}
	return joined
}

// field is a piece of a frame, or of what the kernel knows of it, 16 bytes at
// most.
type field struct {
	load expr.Any
	size int
}

// link is a field of the Ethernet header. From offset 12 on the kernel shows a
// tag that it has taken out of the frame as if it were still there
// (net/netfilter/nft_payload.c, nft_payload_copy_vlan).
func link(offset, size int) field { return payload(expr.PayloadBaseLLHeader, offset, size) }

// network is a field behind the Ethernet header and its tags.
func network(offset, size int) field { return payload(expr.PayloadBaseNetworkHeader, offset, size) }

// transport is a field behind IPv4's options and IPv6's extension headers. It
// is not there in a fragment other than the first.
func transport(offset, size int) field {
	return payload(expr.PayloadBaseTransportHeader, offset, size)
}

// fragment is a field of IPv6's fragment header, wherever that is; it is not there
// in a packet that has none.
func fragment(offset, size int) field {
	return field{&expr.Exthdr{DestRegister: unix.NFT_REG_1, Type: unix.IPPROTO_FRAGMENT, Offset: uint32(offset), Len: uint32(size), Op: expr.ExthdrOpIpv6}, size}
}

func payload(base expr.PayloadBase, offset, size int) field {
	return field{&expr.Payload{DestRegister: unix.NFT_REG_1, Base: base, Offset: uint32(offset), Len: uint32(size)}, size}
}

// protocol is the EtherType behind a tag.
func protocol() field {
	return field{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: unix.NFT_REG_1}, 2}
}

// upper is the protocol behind IPv4's options and IPv6's extension headers. It is
// not there where these headers are not what they should be
// (nft_set_pktinfo_ipv4_validate, nft_set_pktinfo_ipv6_validate).
func upper() field { return field{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}, 1} }

func (f field) is(value ...byte) terms  { return f.compare(expr.CmpOpEq, value) }
func (f field) not(value ...byte) terms { return f.compare(expr.CmpOpNeq, value) }
func (f field) below(v ...byte) terms   { return f.compare(expr.CmpOpLt, v) }

// there holds when the frame is long enough to have the field.
func (f field) there() terms { return f.compare(expr.CmpOpGte, make([]byte, f.size)) }

func (f field) compare(op expr.CmpOp, value []byte) terms {
	return terms{f.load, &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: value}}
}

// none holds when the field is none of the values.
func (f field) none(values ...[]byte) terms {
	t := terms{f.load}
	for _, v := range values {
		t = append(t, &expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: v})
	}
	return t
}

// masked holds when the bits of mask are those of value.
func (f field) masked(mask, value []byte) terms {
	return terms{f.load, f.and(mask), &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: value}}
}

// maskedByWord is masked in more and smaller steps, which are faster together: the
// kernel works those of up to 32 bits off where it stands, and calls a function for
// longer ones (net/netfilter/nf_tables_core.c, nft_do_chain).
func (f field) maskedByWord(mask, value []byte) terms {
	const spare = unix.NFT_REG32_00 + 4 // behind the field, which has 16 bytes at most
	t := terms{f.load}
	for at := 0; at < len(mask); at += 4 {
		end := min(at+4, len(mask))
		m, v, reg := mask[at:end], value[at:end], uint32(unix.NFT_REG32_00+at/4)
		switch {
		case isOnly(m, 0):
			continue
		case !isOnly(m, 0xff):
			word := slices.Concat(m, make([]byte, 4-len(m)))
			t = append(t, &expr.Bitwise{SourceRegister: reg, DestRegister: spare, Len: 4, Mask: word, Xor: make([]byte, 4)})
			reg = spare
		}
		t = append(t, &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: v})
	}
	return t
}

func isOnly(b []byte, value byte) bool {
	return bytes.Count(b, []byte{value}) == len(b)
}

func (f field) and(mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

// in holds when the field is in the list.
func (f field) in(l list) terms { return f.compared(l, expr.CmpOpEq) }

// outside holds when the field is not in the list.
func (f field) outside(l list) terms { return f.compared(l, expr.CmpOpNeq) }

func (f field) compared(l list, op expr.CmpOp) terms {
	if l.inSet() {
		return terms{f.load, l.lookup(op == expr.CmpOpNeq)}
	}
	only := l.values[0]
	t := terms{f.load}
	if !only.whole() {
		t = append(t, f.and(only.mask))
	}
	return append(t, &expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: only.first})
}

func (l list) lookup(invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: l.set, Invert: invert}
}

// value is a value, or those that share the bits of mask with it.
type value struct{ first, mask []byte }

func (v value) whole() bool { return bytes.Count(v.mask, []byte{0xff}) == len(v.mask) }
