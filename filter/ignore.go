package filter

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
)

// portOffset is where a message has the port of whoever made the change
// (uapi/linux/netlink.h, struct nlmsghdr, nlmsg_pid).
const portOffset = 12

// ignore has the kernel drop what is told of changes made by a port, which is one of
// ours: every rule of a filter would be told back to us. What is told at once is of
// one transaction, so of one port (net/netfilter/nf_tables_api.c, nft_commit_notify).
// Where it cannot be had, Watch sorts these out.
func (n *news) ignore(port uint32) {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: portOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: swapped(port), SkipTrue: 1},
		bpf.RetConstant{Val: 1<<32 - 1},
		bpf.RetConstant{Val: 0},
	})
	if err == nil {
		_ = n.sock.SetBPF(program)
	}
}

// swapped is a number of this machine as a program reads it, big-endian.
func swapped(n uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n))
}
