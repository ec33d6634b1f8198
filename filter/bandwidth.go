package filter

import (
	"context"
	"errors"
	"math"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// A device's root qdisc has what its netdev sends, its ingress what that
// receives. The guest of a macvtap is behind the netdev's sending side; to the
// guest of a tap, the netdev sends.

// setBandwidth shapes what the netdev sends and polices what it receives.
func (h *Host) setBandwidth(ctx context.Context, on rtnl.Link, s Spec) error {
	sent, received := s.bandwidth(on.MTU)
	err := h.police(ctx, on.Index, received)
	if err == nil {
		err = h.shape(ctx, on.Index, sent)
	}
	var said *vmnetd.Error
	if err == nil || errors.As(err, &said) {
		return err
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "the bandwidth of %s cannot be set: %w", s.Ifname, err)
}

func (h *Host) hasBandwidth(ctx context.Context, on rtnl.Link, s Spec) (bool, error) {
	sent, received := s.bandwidth(on.MTU)
	q, err := h.qdisc(ctx, on.Index, rootParent)
	if err != nil {
		return false, err
	}
	ours := q.kind == "tbf" && q.handle == shaperHandle
	if ours != (sent.Bits != 0) || ours && !shaped(q, sent) {
		return false, nil
	}
	list, err := h.policers(ctx, on.Index)
	if err != nil {
		return false, err
	}
	if received.Bits == 0 {
		return len(list) == 0, nil
	}
	return len(list) == 1 && policed(list[0], received), nil
}

// limited are the devices, by ifindex, that may have a bandwidth of ours: one
// question about all.
func (h *Host) limited(ctx context.Context) (map[int]bool, error) {
	msgs, err := h.conn.Exchange(ctx, tcMessage(unix.RTM_GETQDISC, unix.NLM_F_DUMP, 0, 0, 0, 0), unix.RTM_NEWQDISC)
	if err != nil {
		return nil, err
	}
	list := map[int]bool{}
	for _, m := range msgs {
		q, err := parseTC(m)
		if err != nil {
			return nil, err
		}
		if q.kind == "tbf" || q.kind == "clsact" || q.kind == "ingress" {
			list[q.index] = true
		}
	}
	return list, nil
}

// limited says that a bandwidth is asked for.
func (s Spec) limited() bool { return s.In.Bits != 0 || s.Out.Bits != 0 }

// bandwidth is what a netdev of that MTU may send and what it may receive, each
// with its burst.
func (s Spec) bandwidth(mtu int) (sent, received Rate) {
	sent, received = s.In, s.Out
	if s.Hook == Egress {
		sent, received = s.Out, s.In
	}
	sent.Burst, received.Burst = sent.shaperBurst(mtu), received.policerBurst()
	return sent, received
}

// bytes is the rate in bytes/s.
func (r Rate) bytes() uint64 { return max(r.Bits/8, 1) }

// largest is the most bytes that a device hands over as one: segments are put
// together to that (GSO_LEGACY_MAX_SIZE), with their header.
const largest = 1<<16 + 128

// shaperBurst is the bytes that leave at once: what was asked for, at least one
// frame with two tags, since what is larger and cannot be taken apart is dropped
// (net/sched/sch_tbf.c, tbf_enqueue); else 10 ms, and ten frames of 1500 bytes.
func (r Rate) shaperBurst(mtu int) uint32 {
	least := uint64(mtu) + 22
	return r.burst(least, max(least, 10*1500))
}

// policerBurst is the bytes that come in at once: what was asked for, at least the
// largest that there is, which would never pass otherwise; else 10 ms, and twice
// that.
func (r Rate) policerBurst() uint32 { return r.burst(largest, 2*largest) }

func (r Rate) burst(least, usual uint64) uint32 {
	if r.Burst != 0 {
		return uint32(max(uint64(r.Burst), least))
	}
	return uint32(min(max(r.bytes()/100, usual), math.MaxUint32))
}
