package filter

import (
	"context"
	"errors"
	"math"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// What a policer does (uapi/linux/pkt_cls.h).
const (
	shot  = 2          // TC_ACT_SHOT: dropped
	going = 0xffffffff // TC_ACT_UNSPEC: the filters behind it have their say
)

// Options of matchall and of the action police (uapi/linux/pkt_cls.h).
const (
	matchallAct  = 2 // TCA_MATCHALL_ACT
	policeRate64 = 8 // TCA_POLICE_RATE64
)

// police drops at a device's ingress what exceeds the rate, or no longer. It is a
// filter among others: the qdisc that holds them stays, and so do theirs.
func (h *Host) police(ctx context.Context, index int, r Rate) error {
	ours, err := h.policers(ctx, index)
	if err != nil {
		return err
	}
	// Two are there after a stop between the new one and the end of the old one.
	for len(ours) > 1 {
		if err := h.dropPolicer(ctx, index, ours[1]); err != nil {
			return err
		}
		ours = ours[:1]
	}
	if r.Bits != 0 {
		if len(ours) == 1 && policed(ours[0], r) {
			return nil
		}
		if err := h.addPolicer(ctx, index, r, otherThan(ours)); err != nil {
			return err
		}
	}
	if len(ours) == 0 {
		return nil
	}
	return h.dropPolicer(ctx, index, ours[0])
}

func (h *Host) dropPolicer(ctx context.Context, index int, f tcObject) error {
	_, err := h.conn.Exchange(ctx, tcMessage(unix.RTM_DELTFILTER, unix.NLM_F_ACK, index, ingressParent, 0, filterInfo(f.priority)), 0)
	return err
}

// otherThan is the priority that our filter does not have.
func otherThan(ours []tcObject) uint16 {
	if len(ours) > 0 && ours[0].priority == policerA {
		return policerB
	}
	return policerA
}

// policers are our filters at a device's ingress; a device without a qdisc for
// them has none.
func (h *Host) policers(ctx context.Context, index int) ([]tcObject, error) {
	q, err := h.qdisc(ctx, index, clsactParent)
	if err != nil || q.kind != "clsact" && q.kind != "ingress" {
		return nil, err
	}
	msgs, err := h.conn.Exchange(ctx, tcMessage(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, index, ingressParent, 0, 0), unix.RTM_NEWTFILTER)
	if err != nil {
		return nil, err
	}
	var ours []tcObject
	for _, m := range msgs {
		f, err := parseTC(m)
		if err != nil {
			return nil, err
		}
		if f.kind == "matchall" && f.handle != 0 && (f.priority == policerA || f.priority == policerB) {
			ours = append(ours, f)
		}
	}
	return ours, nil
}

func (h *Host) addPolicer(ctx context.Context, index int, r Rate, priority uint16) error {
	req := tcMessage(unix.RTM_NEWQDISC, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, clsactParent, clsactHandle, 0)
	req.AddData(kindOf("clsact"))
	if _, err := h.conn.Exchange(ctx, req, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	req = tcMessage(unix.RTM_NEWTFILTER, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, ingressParent, 1, filterInfo(priority))
	req.AddData(kindOf("matchall"))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	action := options.AddRtAttr(matchallAct, nil).AddRtAttr(1, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("police"))
	policeOptions(action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil), r)
	req.AddData(options)
	_, err := h.conn.Exchange(ctx, req, 0)
	if errors.Is(err, unix.ENOENT) {
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel cannot police what comes in: it lacks cls_matchall or act_police").
			WithNext("use a kernel with CONFIG_NET_CLS_MATCHALL and CONFIG_NET_ACT_POLICE, or no bandwidth in that direction")
	}
	return err
}

func policeOptions(options *nl.RtAttr, r Rate) {
	rate := r.bytes()
	parms := nl.TcPolice{
		Action: shot, Burst: ticks(rate, r.Burst),
		Rate: nl.TcRateSpec{Linklayer: linkLayerEthernet, CellLog: 3, Rate: rate32(rate)}, // a cell that is none is refused (qdisc_get_rtab)
	}
	parms.Mtu = math.MaxInt32 // none: segments are put together to 64 KiB and more
	options.AddRtAttr(nl.TCA_POLICE_TBF, parms.Serialize())
	options.AddRtAttr(nl.TCA_POLICE_RATE, make([]byte, 1024)) // a table of times that has to be there and is not read
	options.AddRtAttr(nl.TCA_POLICE_RESULT, nl.Uint32Attr(going))
	if rate > math.MaxUint32 {
		options.AddRtAttr(policeRate64, nl.Uint64Attr(rate))
	}
}

// policed says whether a filter's action has that rate and burst.
func policed(f tcObject, r Rate) bool {
	options := f.options
	for _, step := range []uint16{matchallAct, 1, nl.TCA_ACT_OPTIONS} {
		options = within(options, step)
	}
	b := option(options, nl.TCA_POLICE_TBF)
	if len(b) < nl.SizeofTcPolice {
		return false
	}
	has := nl.DeserializeTcPolice(b)
	rate := rateOf(has.Rate.Rate, option(options, policeRate64))
	return rate == r.bytes() && has.Action == shot && near(has.Burst, ticks(rate, r.Burst))
}

func within(list []syscall.NetlinkRouteAttr, kind uint16) []syscall.NetlinkRouteAttr {
	inner, _ := nl.ParseRouteAttr(option(list, kind))
	return inner
}
