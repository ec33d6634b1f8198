package learn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// OpenSocket opens a packet socket on a device of conn's namespace, filtered in the
// kernel to ARP, DHCP and ND without a VLAN tag, both directions; what is found by
// DHCPv6 is heard when the guest looks for duplicates. The caller closes it. A
// device that is moved to another namespace needs a new one. vmnetd.ErrNotFound:
// there is no such device.
func OpenSocket(_ context.Context, conn *rtnl.Conn, ifindex int) (fd int, err error) {
	return openSocket(conn, ifindex, guestBuffer, anyGuest())
}

// openSocket opens a socket with a receive buffer of so many bytes. It gets
// nothing before it is bound (protocol 0), and it has its filter by then. Only
// ETH_P_ALL sees what a device sends, and what comes in ahead of the handler that a
// macvlan or ipvlan has on its lower device (net/core/dev.c,
// __netif_receive_skb_core).
func openSocket(conn *rtnl.Conn, ifindex, buffer int, program []bpf.Instruction) (int, error) {
	fd := -1
	err := conn.Do(func() error {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer),
			attach(fd, program))
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everyProtocol(), Ifindex: ifindex})
	})
	if err == nil {
		return fd, nil
	}
	closeFd(fd)
	if errors.Is(err, unix.ENODEV) {
		return -1, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no device with ifindex %d to listen on: %w", ifindex, err)
	}
	return -1, vmnetd.Errorf(vmnetd.ErrFailed, "cannot open a packet socket on the device with ifindex %d: %w", ifindex, err).WithNext("give vmnetd CAP_NET_RAW")
}

// attach puts a program in the place of the one that a socket has, at once
// (net/core/filter.c, sk_attach_filter).
func attach(fd int, program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// narrow has a guest's socket pass only what matters, now that its MAC and its
// direction are known: nobody is woken by the requests that a whole segment hears.
func narrow(spec Spec) error {
	if err := attach(spec.Fd, oneGuest(mac(spec.MAC), spec.Sends == egress)); err != nil {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s: descriptor %d is no packet socket: %w", spec.Key, spec.Fd, err)
	}
	return nil
}

// boundTo is the ifindex that a socket listens on; -1 when that device has gone.
func boundTo(fd int) int {
	sa, err := unix.Getsockname(fd)
	if ll, ok := sa.(*unix.SockaddrLinklayer); ok && err == nil {
		return int(int32(ll.Ifindex))
	}
	return -1
}

// everyProtocol is htons(ETH_P_ALL).
func everyProtocol() uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
}

func failed(what string, err error) error {
	return vmnetd.Errorf(vmnetd.ErrFailed, "%s: %w", what, fmt.Errorf("epoll: %w", err))
}
