package rtnl

import (
	"context"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Addr is an address of the host on a link.
type Addr struct {
	Prefix    netip.Prefix `json:"prefix"`
	Peer      netip.Prefix `json:"peer,omitzero"`       // of a point-to-point link
	Broadcast netip.Addr   `json:"broadcast,omitzero"`  // IPv4, invalid: none
	Scope     int          `json:"scope,omitempty"`     // RT_SCOPE_*
	NoPrefix  bool         `json:"no_prefix,omitempty"` // IFA_F_NOPREFIXROUTE: no route of its own
	Dynamic   bool         `json:"dynamic,omitempty"`   // not IFA_F_PERMANENT: DHCP or a router gave it, for a time
}

// AddrsOf is the addresses of the host on a link, in the kernel's order, which
// is that of preference. Link-local ones, which the kernel makes by itself, are
// left out.
func (c *Conn) AddrsOf(ctx context.Context, index int) ([]Addr, error) {
	return addrsOn(ctx, c, index, addrOf)
}

// AllAddrs is AddrsOf for every link, by ifindex.
func (c *Conn) AllAddrs(ctx context.Context) (map[int][]Addr, error) {
	return addrsByLink(ctx, c, addrOf)
}

// addrOf leaves link-local addresses out.
func addrOf(b []byte, index int) (Addr, bool) {
	p, ok := parseAddr(b, index)
	if !ok || p.Addr().IsLinkLocalUnicast() {
		return Addr{}, false
	}
	msg := nl.DeserializeIfAddrmsg(b)
	a := Addr{Prefix: p, Scope: int(msg.Scope)}
	flags := uint32(msg.Flags)
	each(b[unix.SizeofIfAddrmsg:], func(attr int, v []byte) {
		switch attr {
		case unix.IFA_FLAGS:
			flags = number(v)
		case unix.IFA_BROADCAST:
			a.Broadcast, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			if peer, ok := netip.AddrFromSlice(v); ok && peer != p.Addr() {
				a.Peer, a.Prefix = netip.PrefixFrom(peer, p.Bits()), netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
			}
		}
	})
	a.Dynamic = flags&unix.IFA_F_PERMANENT == 0
	a.NoPrefix = flags&unix.IFA_F_NOPREFIXROUTE != 0
	return a, true
}

// AddAddr gives a link an address; one that it has is fine. An IPv6 address is
// used at once: the host had it a moment ago, so it looks for no duplicate.
func (c *Conn) AddAddr(ctx context.Context, index int, a Addr) error {
	_, err := c.run(ctx, request{msg: addrMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, a)})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// DelAddr takes an address from a link; one that it has not is fine.
func (c *Conn) DelAddr(ctx context.Context, index int, a Addr) error {
	_, err := c.run(ctx, request{msg: addrMessage(unix.RTM_DELADDR, 0, index, a)})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

func addrMessage(kind, flags, index int, a Addr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	local := a.Prefix.Addr()
	msg := nl.NewIfAddrmsg(family(local))
	msg.Index, msg.Scope, msg.Prefixlen = uint32(index), uint8(a.Scope), uint8(a.Prefix.Bits())
	address := local
	if a.Peer.IsValid() {
		address, msg.Prefixlen = a.Peer.Addr(), uint8(a.Peer.Bits())
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, local.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, address.AsSlice()))
	if a.Broadcast.IsValid() {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, a.Broadcast.AsSlice()))
	}
	bits := uint32(0)
	if a.NoPrefix {
		bits |= unix.IFA_F_NOPREFIXROUTE
	}
	if local.Is6() {
		bits |= unix.IFA_F_NODAD
	}
	if bits != 0 {
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(bits)))
	}
	return req
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
