package filter

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// shaperWait is how long in milliseconds what exceeds the rate may wait before
// it is dropped.
const shaperWait = 50

// shape gives a device's root a token bucket (net/sched/sch_tbf.c), changes the
// one that is there, or takes it away. What waits in it stays when it is changed.
func (h *Host) shape(ctx context.Context, index int, r Rate) error {
	q, err := h.qdisc(ctx, index, rootParent)
	if err != nil {
		return err
	}
	ours := q.kind == "tbf" && q.handle == shaperHandle
	switch {
	case r.Bits == 0 && !ours, ours && shaped(q, r):
		return nil
	case r.Bits == 0:
		_, err = h.conn.Exchange(ctx, tcMessage(unix.RTM_DELQDISC, unix.NLM_F_ACK, index, rootParent, shaperHandle, 0), 0)
		return err
	}
	req := tcMessage(unix.RTM_NEWQDISC, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, rootParent, shaperHandle, 0)
	req.AddData(kindOf("tbf"))
	req.AddData(tbfOptions(r))
	_, err = h.conn.Exchange(ctx, req, 0)
	return err
}

// linkLayerEthernet says that no table of times has to be sent
// (TC_LINKLAYER_ETHERNET).
const linkLayerEthernet = 1

func tbfOptions(r Rate) *nl.RtAttr {
	rate, burst := r.bytes(), r.Burst
	parms := nl.TcTbfQopt{Rate: nl.TcRateSpec{Linklayer: linkLayerEthernet, Rate: rate32(rate)}}
	parms.Limit = uint32(min(rate*shaperWait/1000+uint64(burst), math.MaxUint32))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_TBF_PARMS, parms.Serialize())
	options.AddRtAttr(nl.TCA_TBF_BURST, nl.Uint32Attr(burst))
	if rate > math.MaxUint32 {
		options.AddRtAttr(nl.TCA_TBF_RATE64, nl.Uint64Attr(rate))
	}
	return options
}

// shaped says whether a token bucket has that rate and burst. The kernel tells
// the burst as a time, in ticks of 64 ns.
func shaped(q tcObject, r Rate) bool {
	b := option(q.options, nl.TCA_TBF_PARMS)
	if len(b) < nl.SizeofTcTbfQopt {
		return false
	}
	has := nl.DeserializeTcTbfQopt(b)
	rate := rateOf(has.Rate.Rate, option(q.options, nl.TCA_TBF_RATE64))
	return rate == r.bytes() && near(has.Buffer, ticks(rate, r.Burst))
}

// rateOf is a rate in bytes/s: the wide one where there is one.
func rateOf(narrow uint32, wide []byte) uint64 {
	if len(wide) == 8 {
		return binary.NativeEndian.Uint64(wide)
	}
	return uint64(narrow)
}

func rate32(rate uint64) uint32 { return uint32(min(rate, math.MaxUint32)) }

// ticks is how long that many bytes take, in the 64 ns of the kernel's packet
// scheduler (include/net/pkt_sched.h, PSCHED_SHIFT).
func ticks(rate uint64, bytes uint32) uint32 {
	return uint32(min(float64(bytes)*1e9/64/float64(rate), math.MaxUint32))
}

// near allows for the kernel's rounding.
func near(a, b uint32) bool {
	return math.Abs(float64(a)-float64(b)) <= 2+float64(b)/200
}
