package tapdev

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// message makes a device by one netlink message.
type message struct{ build func(s Spec) rtnl.NewLink }

func (m message) make(ctx context.Context, h *Host, s Spec, index int) error {
	link := m.build(s)
	link.Index = index
	return h.conn.Create(ctx, link)
}

// noMAC is a group's address, which no device can have.
var noMAC = net.HardwareAddr{1, 0, 0, 0, 0, 0}

// probe asks for a device that no driver makes: without a lower one, and with a
// group's address for its MAC. A kernel that knows the kind, loading its module if
// need be, finds fault with that; one that does not know it says so before
// (EOPNOTSUPP; net/core/rtnetlink.c, rtnl_newlink).
func (message) probe(ctx context.Context, h *Host, k kind) (string, error) {
	err := h.conn.Create(ctx, rtnl.NewLink{Name: vmnetd.IfnamePrefix + "-probe", Kind: k.link, MAC: noMAC})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return "the kernel has it", nil
	}
	return "", err
}
