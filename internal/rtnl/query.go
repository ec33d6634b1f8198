package rtnl

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// skipStats keeps statistics out of the answers (RTEXT_FILTER_SKIP_STATS,
// uapi/linux/rtnetlink.h).
const skipStats = 1 << 3

// dumpTries bounds the dumps that are begun again because the links changed
// meanwhile: 34 of 37 are interrupted while devices come and go.
const dumpTries = 20

// LinkByName is the link with that name or alternative name; vmnetd.ErrNotFound
// when there is none.
func (c *Conn) LinkByName(ctx context.Context, name string) (Link, error) {
	notFound := vmnetd.Errorf(vmnetd.ErrNotFound, "no network device is named %s", vmnetd.Printable(name))
	if name == "" || len(name) > vmnetd.MaxIfname {
		return Link{}, notFound
	}
	l, err := c.link(ctx, 0, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if errors.Is(err, unix.ENODEV) {
		return Link{}, notFound
	}
	return l, err
}

// LinkByIndex is the link with that ifindex; vmnetd.ErrNotFound when there is
// none.
func (c *Conn) LinkByIndex(ctx context.Context, index int) (Link, error) {
	notFound := vmnetd.Errorf(vmnetd.ErrNotFound, "no network device has the index %d", index)
	if index <= 0 {
		return Link{}, notFound
	}
	l, err := c.link(ctx, index)
	if errors.Is(err, unix.ENODEV) {
		return Link{}, notFound
	}
	return l, err
}

func (c *Conn) link(ctx context.Context, index int, attrs ...nl.NetlinkRequestData) (Link, error) {
	req := getLink(index, 0)
	req.Data = append(req.Data, attrs...)
	msgs, err := c.run(ctx, request{msg: req, reply: unix.RTM_NEWLINK})
	switch {
	case err != nil:
		return Link{}, err
	case len(msgs) != 1:
		return Link{}, vmnetd.Errorf(vmnetd.ErrFailed, "the kernel answered one question about a link with %d answers", len(msgs))
	}
	return parseLink(msgs[0])
}

// Links is every link. It fails with ErrDumpInterrupted (errors.Is) when links
// came and went too fast to see all of them at once; the links are then what
// was seen, and it proves nothing that one is missing.
func (c *Conn) Links(ctx context.Context) ([]Link, error) {
	msgs, dumpErr := c.dump(ctx, func() *nl.NetlinkRequest { return getLink(0, unix.NLM_F_DUMP) }, unix.RTM_NEWLINK)
	if dumpErr != nil && !errors.Is(dumpErr, ErrDumpInterrupted) {
		return nil, dumpErr
	}
	links := make([]Link, 0, len(msgs))
	for _, m := range msgs {
		l, err := parseLink(m)
		if err != nil {
			return nil, err
		}
		links = append(links, l)
	}
	return links, dumpErr
}

// Addrs is the addresses on a link, with their prefix lengths.
func (c *Conn) Addrs(ctx context.Context, index int) ([]netip.Prefix, error) {
	return addrsOn(ctx, c, index, parseAddr)
}

// addrsOn is what parse makes of each address on a link, in the kernel's order; none
// on a link that is not there.
func addrsOn[T any](ctx context.Context, c *Conn, index int, parse func(msg []byte, index int) (T, bool)) ([]T, error) {
	msgs, err := c.dump(ctx, func() *nl.NetlinkRequest { return getAddr(index) }, unix.RTM_NEWADDR)
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var addrs []T
	for _, m := range msgs {
		if a, ok := parse(m, index); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// AddrsByLink is Addrs for every link, by ifindex.
func (c *Conn) AddrsByLink(ctx context.Context) (map[int][]netip.Prefix, error) {
	return addrsByLink(ctx, c, parseAddr)
}

// addrsByLink is addrsOn for every link, by one dump.
func addrsByLink[T any](ctx context.Context, c *Conn, parse func(msg []byte, index int) (T, bool)) (map[int][]T, error) {
	msgs, err := c.dump(ctx, func() *nl.NetlinkRequest { return getAddr(0) }, unix.RTM_NEWADDR)
	if err != nil {
		return nil, err
	}
	all := map[int][]T{}
	for _, m := range msgs {
		if len(m) < unix.SizeofIfAddrmsg {
			continue
		}
		index := int(nl.DeserializeIfAddrmsg(m).Index)
		if a, ok := parse(m, index); ok {
			all[index] = append(all[index], a)
		}
	}
	return all, nil
}

// getAddr asks for the addresses on a link, 0 for every link.
func getAddr(index int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	msg := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	msg.Index = uint32(index)
	req.AddData(msg)
	return req
}

func parseAddr(b []byte, index int) (netip.Prefix, bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return netip.Prefix{}, false
	}
	msg := nl.DeserializeIfAddrmsg(b)
	if int(msg.Index) != index {
		return netip.Prefix{}, false
	}
	var local, address netip.Addr
	each(b[unix.SizeofIfAddrmsg:], func(attr int, v []byte) {
		switch attr {
		case unix.IFA_LOCAL: // on a point-to-point link IFA_ADDRESS is the peer's
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		}
	})
	if !local.IsValid() {
		local = address
	}
	return netip.PrefixFrom(local, int(msg.Prefixlen)), local.IsValid()
}

func getLink(index, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, flags)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	return req
}

// dump repeats a dump until it was not interrupted. The pause grows to 100 ms;
// the last answer is given together with ErrDumpInterrupted.
func (c *Conn) dump(ctx context.Context, get func() *nl.NetlinkRequest, reply uint16) ([][]byte, error) {
	pause := time.Millisecond
	for try := 1; ; try++ {
		msgs, err := c.run(ctx, request{msg: get(), reply: reply})
		again := errors.Is(err, ErrDumpInterrupted) || errors.Is(err, unix.EINTR)
		if !again || try == dumpTries {
			return msgs, err
		}
		select {
		case <-ctx.Done():
			return msgs, err
		case <-time.After(pause):
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}
