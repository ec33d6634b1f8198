package main

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// The floor writes its netlink messages itself: a library, also our own, would
// be part of what is to be measured.

// netlinkSock is a socket of the namespace it was opened in.
type netlinkSock struct {
	fd  int
	seq uint32
	buf [32 << 10]byte
}

func openNetlink() (*netlinkSock, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &netlinkSock{fd: fd}, nil
}

func (s *netlinkSock) close() { _ = unix.Close(s.fd) }

// attr is one attribute, padded.
func attr(kind int, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, uint16(kind))
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func nest(kind int, inner ...[]byte) []byte {
	var value []byte
	for _, b := range inner {
		value = append(value, b...)
	}
	return attr(kind, value)
}

func u32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func text(s string) []byte { return append([]byte(s), 0) }

// link sends one message about a link and waits for the acknowledgement.
func (s *netlinkSock) link(kind, flags uint16, index int, set, mask uint32, attrs ...[]byte) error {
	ne := binary.NativeEndian
	s.seq++
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	ne.PutUint16(b[4:], kind)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	ne.PutUint32(b[8:], s.seq)
	info := b[unix.SizeofNlMsghdr:]
	ne.PutUint32(info[4:], uint32(index))
	ne.PutUint32(info[8:], set)
	ne.PutUint32(info[12:], mask)
	for _, a := range attrs {
		b = append(b, a...)
	}
	ne.PutUint32(b, uint32(len(b)))
	if err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || ne.Uint16(s.buf[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("netlink answered %d bytes that are no acknowledgement", n)
	}
	if no := -int32(ne.Uint32(s.buf[unix.SizeofNlMsghdr:])); no != 0 {
		return unix.Errno(no)
	}
	return nil
}

// macvtap is what the floor makes.
type macvtap struct {
	name   string
	lower  int
	mac    net.HardwareAddr
	mtu    int
	queues int
}

// Constants of uapi/linux/if_link.h that package unix lacks.
const (
	macvlanMode       = 1 // IFLA_MACVLAN_MODE
	macvlanModeBridge = 4
	inet6AddrGenMode  = 8 // IFLA_INET6_ADDR_GEN_MODE
	addrGenModeNone   = 1
)

// create makes the device, down, from one message.
func (s *netlinkSock) create(m macvtap, group uint32) error {
	return s.link(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, 0, 0,
		attr(unix.IFLA_IFNAME, text(m.name)),
		attr(unix.IFLA_LINK, u32(uint32(m.lower))),
		attr(unix.IFLA_ADDRESS, m.mac),
		attr(unix.IFLA_MTU, u32(uint32(m.mtu))),
		attr(unix.IFLA_NUM_TX_QUEUES, u32(uint32(m.queues))),
		attr(unix.IFLA_NUM_RX_QUEUES, u32(uint32(m.queues))),
		attr(unix.IFLA_GROUP, u32(group)),
		nest(unix.IFLA_LINKINFO,
			attr(unix.IFLA_INFO_KIND, []byte("macvtap")),
			nest(unix.IFLA_INFO_DATA, attr(macvlanMode, u32(macvlanModeBridge)))))
}

// harden is the second and last message before the handover.
func (s *netlinkSock) harden(index int) error {
	return s.link(unix.RTM_SETLINK, 0, index, unix.IFF_ALLMULTI, unix.IFF_ALLMULTI,
		nest(unix.IFLA_AF_SPEC, nest(unix.AF_INET6, attr(inet6AddrGenMode, []byte{addrGenModeNone}))))
}

func (s *netlinkSock) alias(index int, alias string) error {
	return s.link(unix.RTM_SETLINK, 0, index, 0, 0, attr(unix.IFLA_IFALIAS, []byte(alias)))
}

func (s *netlinkSock) up(index int, up bool) error {
	set := uint32(0)
	if up {
		set = unix.IFF_UP
	}
	return s.link(unix.RTM_SETLINK, 0, index, set, unix.IFF_UP)
}

func (s *netlinkSock) remove(index int) error {
	return s.link(unix.RTM_DELLINK, 0, index, 0, 0)
}
