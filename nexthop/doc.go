// Package nexthop answers a guest that asks for the link-layer address of a next
// hop on a device that routes: an ipvtap in mode l3 drops ARP and neighbour
// discovery (drivers/net/ipvlan/ipvlan_core.c, ipvlan_xmit_mode_l3), so a guest's
// operating system would never send. A BPF program at the device's egress (tc
// clsact) turns the question round into the answer. It stays with the device and
// needs no process.
//
// program.go is the program, in assembler; asm.go its idioms. Loading it takes
// CAP_BPF and CAP_NET_ADMIN, nothing else: it uses no packet pointers.
package nexthop
