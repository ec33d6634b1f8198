package rtnl

import (
	"context"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rule has what comes from some addresses routed by a table of its own (ip-rule(8)).
type Rule struct {
	From     netip.Prefix
	Priority int
	Table    int
	Proto    int // FRA_PROTOCOL, numbers as RTPROT_*: who made it
}

// Rules is the rules that go by the source alone.
func (c *Conn) Rules(ctx context.Context) ([]Rule, error) {
	var rules []Rule
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		get := func() *nl.NetlinkRequest {
			req := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
			req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}}) // struct fib_rule_hdr has the same size
			return req
		}
		msgs, err := c.dump(ctx, get, unix.RTM_NEWRULE)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6, or without rules for it
		}
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			if r, ok := ruleOf(m); ok {
				rules = append(rules, r)
			}
		}
	}
	return rules, nil
}

func ruleOf(b []byte) (r Rule, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	msg := nl.DeserializeRtMsg(b)
	r.Table = int(msg.Table)
	ok = true
	each(b[unix.SizeofRtMsg:], func(attr int, v []byte) {
		switch attr {
		case unix.FRA_SRC:
			a, _ := netip.AddrFromSlice(v)
			r.From = netip.PrefixFrom(a, int(msg.Src_len))
		case unix.FRA_PRIORITY:
			r.Priority = int(number(v))
		case unix.FRA_TABLE:
			r.Table = int(number(v))
		case unix.FRA_PROTOCOL:
			r.Proto = int(v[0])
		case unix.FRA_DST, unix.FRA_IIFNAME, unix.FRA_OIFNAME, unix.FRA_FWMARK, unix.FRA_IP_PROTO, unix.FRA_SPORT_RANGE, unix.FRA_DPORT_RANGE, unix.FRA_UID_RANGE:
			ok = false
		}
	})
	return r, ok && r.From.IsValid()
}

// AddRule adds a rule; one that is there is fine.
func (c *Conn) AddRule(ctx context.Context, r Rule) error {
	_, err := c.run(ctx, request{msg: r.message(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// DelRule takes a rule away; one that is not there is fine.
func (c *Conn) DelRule(ctx context.Context, r Rule) error {
	_, err := c.run(ctx, request{msg: r.message(unix.RTM_DELRULE, 0)})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (r Rule) message(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{
		Family: uint8(family(r.From.Addr())), Src_len: uint8(r.From.Bits()), Table: unix.RT_TABLE_COMPAT, Type: unix.FR_ACT_TO_TBL,
	}})
	for _, a := range []*nl.RtAttr{
		nl.NewRtAttr(unix.FRA_SRC, r.From.Addr().AsSlice()),
		nl.NewRtAttr(unix.FRA_PRIORITY, nl.Uint32Attr(uint32(r.Priority))),
		nl.NewRtAttr(unix.FRA_TABLE, nl.Uint32Attr(uint32(r.Table))),
		nl.NewRtAttr(unix.FRA_PROTOCOL, []byte{byte(r.Proto)}),
	} {
		req.AddData(a)
	}
	return req
}
