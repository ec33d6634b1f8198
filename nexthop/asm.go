package nexthop

import (
	"encoding/binary"
	"slices"

	"github.com/cilium/ebpf/asm"
)

func join(parts ...asm.Instructions) asm.Instructions { return slices.Concat(parts...) }

// named is where jumps to that name go.
func named(name string, p asm.Instructions) asm.Instructions {
	p[0] = p[0].WithSymbol(name)
	return p
}

func result(value int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, value), asm.Return()}
}

// load copies bytes of the frame, whose skb is in R6, to the stack; one that is
// shorter passes. It needs no bounds of packet pointers, and R1 to R5 are lost.
func load(from int32, to int16, size int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, from),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, size),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),
	}
}

// store copies bytes from the stack to the frame; where that fails, the frame is
// half written and is dropped.
func store(to int32, from int16, size int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, to),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(from)),
		asm.Mov.Imm(asm.R4, size),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
	}
}

// put writes bytes to an even place on the stack.
func put(at int16, parts ...[]byte) asm.Instructions {
	b := slices.Concat(parts...)
	var p asm.Instructions
	for i := 0; i < len(b); i += 2 {
		p = append(p, asm.StoreImm(asm.RFP, at+int16(i), int64(be16(binary.BigEndian.Uint16(b[i:]))), asm.Half))
	}
	return p
}

// be16 is a value as the CPU reads it from a frame.
func be16(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

func be32(b []byte) int32 { return int32(binary.NativeEndian.Uint32(b)) }
