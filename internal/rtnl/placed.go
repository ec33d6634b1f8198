package rtnl

import (
	"context"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Ours marks addresses (IFA_PROTO, Linux 5.18) and routes (rtm_protocol) that we
// gave a device in a namespace whose stack uses it: ip-address(8) and ip-route(8)
// show it as "proto 118". Numbers below 4 are the kernel's for addresses; 118 is
// nobody's in iproute2's rt_protos.
const Ours = 118

// Of addresses that the kernel made itself (uapi/linux/if_addr.h, IFAPROT_*).
const (
	protoKernelLL = 3
	protoKernelRA = 2
	attrProto     = 11 // IFA_PROTO
)

// Placed is an address on a device with all that tells whose it is.
type Placed struct {
	Prefix    netip.Prefix
	NoDAD     bool // IFA_F_NODAD
	NoPrefix  bool // IFA_F_NOPREFIXROUTE
	Proto     int  // IFA_PROTO: Ours, 0 unknown; a kernel before 5.18 knows of none
	Dynamic   bool // not IFA_F_PERMANENT
	DADFailed bool // another station has it (IFA_F_DADFAILED)
}

// Kernels says that the kernel made the address by itself: a link-local one, or one
// of a router's prefix.
func (p Placed) Kernels() bool { return p.Proto == protoKernelLL || p.Proto == protoKernelRA }

// PlacedOn is every address on a link, link-local ones among them. None on one that
// is not there.
func (c *Conn) PlacedOn(ctx context.Context, index int) ([]Placed, error) {
	return addrsOn(ctx, c, index, placedOf)
}

func placedOf(b []byte, index int) (Placed, bool) {
	prefix, ok := parseAddr(b, index)
	if !ok {
		return Placed{}, false
	}
	p := Placed{Prefix: prefix}
	flags := uint32(nl.DeserializeIfAddrmsg(b).Flags)
	each(b[unix.SizeofIfAddrmsg:], func(attr int, v []byte) {
		switch {
		case attr == unix.IFA_FLAGS:
			flags = number(v)
		case attr == attrProto && len(v) > 0:
			p.Proto = int(v[0])
		}
	})
	p.NoDAD = flags&unix.IFA_F_NODAD != 0
	p.NoPrefix = flags&unix.IFA_F_NOPREFIXROUTE != 0
	p.Dynamic = flags&unix.IFA_F_PERMANENT == 0
	p.DADFailed = flags&unix.IFA_F_DADFAILED != 0
	return p, true
}

// Place gives a link an address; one that it has stays as it is. Errors are the
// kernel's: EADDRINUSE from a device that shares its addresses with others
// (drivers/net/ipvlan), EACCES where IPv6 is off.
func (c *Conn) Place(ctx context.Context, index int, p Placed) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	local := p.Prefix.Addr()
	msg := nl.NewIfAddrmsg(family(local))
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Prefix.Bits())
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, local.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, local.AsSlice()))
	if bits := p.flags(); bits != 0 {
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(bits)))
	}
	if p.Proto != 0 {
		req.AddData(nl.NewRtAttr(attrProto, []byte{byte(p.Proto)}))
	}
	_, err := c.run(ctx, request{msg: req})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func (p Placed) flags() uint32 {
	var bits uint32
	if p.NoDAD && p.Prefix.Addr().Is6() {
		bits |= unix.IFA_F_NODAD
	}
	if p.NoPrefix {
		bits |= unix.IFA_F_NOPREFIXROUTE
	}
	return bits
}

// AddNewRoute routes out of a link, and replaces nothing: EEXIST where a route to
// the same place with the same metric is there, out of whatever link.
func (c *Conn) AddNewRoute(ctx context.Context, index int, r Route) error {
	_, err := c.run(ctx, request{msg: r.message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index)})
	return err
}
