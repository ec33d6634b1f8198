package filter

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Parts of tc (uapi/linux/pkt_sched.h).
const (
	rootParent    = 0xffffffff // TC_H_ROOT
	clsactParent  = 0xfffffff1 // TC_H_CLSACT
	ingressParent = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	clsactHandle  = 0xffff0000

	// shaperHandle is of our root qdisc; one with another handle is somebody's,
	// or the device's own.
	shaperHandle = 0x764d0000

	// policers are the priorities of our filter at ingress: a new one is put
	// beside the old one before that goes.
	policerA, policerB = 0x764d, 0x764e
)

// tcMessage is a message about a qdisc or a filter.
func tcMessage(kind, flags, index int, parent, handle, info uint32) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(index), Parent: parent, Handle: handle, Info: info})
	return req
}

// filterInfo is a filter's priority, and that it sees every protocol.
func filterInfo(priority uint16) uint32 {
	return uint32(priority)<<16 | uint32(binary.NativeEndian.Uint16(be16(unix.ETH_P_ALL)))
}

func kindOf(name string) *nl.RtAttr { return nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(name)) }

// tcObject is a qdisc or a filter as the kernel has it.
type tcObject struct {
	index    int // of the device
	handle   uint32
	priority uint16
	kind     string
	options  []syscall.NetlinkRouteAttr
}

func parseTC(b []byte) (tcObject, error) {
	if len(b) < nl.SizeofTcMsg {
		return tcObject{}, unix.EBADMSG
	}
	head := nl.DeserializeTcMsg(b)
	o := tcObject{index: int(head.Ifindex), handle: head.Handle, priority: uint16(head.Info >> 16)}
	attrs, err := nl.ParseRouteAttr(b[nl.SizeofTcMsg:])
	if err != nil {
		return tcObject{}, err
	}
	for _, a := range attrs {
		switch a.Attr.Type & nl.NLA_TYPE_MASK {
		case nl.TCA_KIND:
			o.kind = unix.ByteSliceToString(a.Value)
		case nl.TCA_OPTIONS:
			// A qdisc without options, such as noqueue, may have none.
			o.options, _ = nl.ParseRouteAttr(a.Value)
		}
	}
	return o, nil
}

// option is the value of an option; nil when it is not there.
func option(list []syscall.NetlinkRouteAttr, kind uint16) []byte {
	i := slices.IndexFunc(list, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type&nl.NLA_TYPE_MASK == kind })
	if i < 0 {
		return nil
	}
	return list[i].Value
}

// qdisc is the qdisc of a device under that parent: asked for alone, since a dump
// is of all devices. The zero tcObject when there is none. Of a qdisc that is
// built in, such as noqueue, the kernel says nothing, so an acknowledgement is
// asked for too, and whoever asked is answered by an echo alone
// (net/sched/sch_api.c, qdisc_get_notify).
func (h *Host) qdisc(ctx context.Context, index int, parent uint32) (tcObject, error) {
	msgs, err := h.conn.Exchange(ctx, tcMessage(unix.RTM_GETQDISC, unix.NLM_F_ACK|unix.NLM_F_ECHO, index, parent, 0, 0), unix.RTM_NEWQDISC)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return tcObject{}, nil
	}
	if err != nil || len(msgs) == 0 {
		return tcObject{}, err
	}
	return parseTC(msgs[0])
}
