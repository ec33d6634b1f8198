package tapdev

import (
	"context"
	"encoding/binary"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// bcQueueLen is IFLA_MACVLAN_BC_QUEUE_LEN (uapi/linux/if_link.h, Linux 5.11).
const bcQueueLen = 7

// queueBroadcasts says how many broadcasts and multicasts may wait on the lower
// device to be copied to the macvlans on it, of which the largest number counts
// (drivers/net/macvlan.c, update_port_bc_queue_len). What does not fit is dropped,
// and counted as received and dropped by the lower device.
func (h *Host) queueBroadcasts(ctx context.Context, spec Spec, link rtnl.Link) error {
	if spec.BCQueue == 0 || queuedBroadcasts(link) == spec.BCQueue {
		return nil
	}
	attr := rtnl.Attr{Type: bcQueueLen, Value: binary.NativeEndian.AppendUint32(nil, uint32(spec.BCQueue))}
	err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.Info(link.Kind, []rtnl.Attr{attr})}})
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot let %d broadcasts wait for %s: %w", spec.BCQueue, link.Name, err)
	}
	return nil
}

func queuedBroadcasts(l rtnl.Link) (n int) {
	rtnl.Each(l.Data, func(attr int, v []byte) {
		if attr == bcQueueLen && len(v) == 4 {
			n = int(binary.NativeEndian.Uint32(v))
		}
	})
	return n
}
