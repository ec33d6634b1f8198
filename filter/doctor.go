package filter

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// Doctor checks that the kernel has the hooks, and names files of the host that
// flush all tables.
func (h *Host) Doctor(ctx context.Context) []vmnetd.Check {
	return append([]vmnetd.Check{h.checkHook(ctx)}, checkFlushes("/")...)
}

// noDevice is a name that no device has: the kernel looks at the hook first, and
// what it says of the device tells that there is one.
const noDevice = "/"

// checkHook rehearses a chain at egress: nothing is left of it, and no device has
// a part in it.
func (h *Host) checkHook(ctx context.Context) vmnetd.Check {
	const name = "nft netdev egress"
	err := h.nft.run(ctx, func(s *session) error {
		return s.rehearse([]netlink.Message{newTable(0), newChain(want{ifname: noDevice, hook: *hooks[Egress]})})
	})
	switch {
	case err == nil, errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOENT):
		return vmnetd.Check{Level: vmnetd.LevelOK, Name: name, Text: "the kernel has it"}
	case lacking(err):
		return vmnetd.Check{
			Level: vmnetd.LevelFail, Name: name, Text: "the kernel does not have it: what guests of macvtap and ipvtap send cannot be filtered",
			Do: "use Linux 5.16 or newer, with CONFIG_NETFILTER_EGRESS",
		}
	case errors.Is(err, unix.EPERM):
		return vmnetd.Check{Level: vmnetd.LevelFail, Name: name, Text: "this process may not make filters", Do: "give it CAP_NET_ADMIN"}
	}
	return vmnetd.Check{Level: vmnetd.LevelWarn, Name: name, Text: fmt.Sprintf("cannot tell: %v", err)}
}
