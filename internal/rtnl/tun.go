package rtnl

import "golang.org/x/sys/unix"

// Tun is what a link of kind tun is (IFLA_TUN_*, drivers/net/tun.c, tun_fill_info).
type Tun struct {
	Tap        bool // Ethernet frames; otherwise IP packets
	VNetHdr    bool // a virtio-net header stands before each frame
	Persist    bool // stays when nobody holds a queue
	MultiQueue bool // may have more queues than one
	Queues     int  // that processes hold, those that are switched off (TUNSETQUEUE) among them
}

// Attributes of a tun (uapi/linux/if_link.h, IFLA_TUN_*). NUM_QUEUES is those that
// are switched on, and is sent for a tun of several queues only.
const (
	tunType        = 3
	tunVNetHdr     = 5
	tunPersist     = 6
	tunMultiQueue  = 7
	tunNumQueues   = 8
	tunNumDisabled = 9
)

// Tun reads a link as a tun; ok is false when it is none.
func (l Link) Tun() (t Tun, ok bool) {
	if l.Kind != "tun" {
		return Tun{}, false
	}
	each(l.Data, func(attr int, v []byte) {
		switch attr {
		case tunType:
			t.Tap = octet(v) == unix.IFF_TAP
		case tunVNetHdr:
			t.VNetHdr = octet(v) != 0
		case tunPersist:
			t.Persist = octet(v) != 0
		case tunMultiQueue:
			t.MultiQueue = octet(v) != 0
		case tunNumQueues, tunNumDisabled:
			t.Queues += int(number(v))
		}
	})
	return t, true
}

func octet(v []byte) byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}
