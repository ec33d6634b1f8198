package tapdev

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Rename gives a device its name back that somebody has renamed, also one that is
// up (Linux 6.3 renames it as it is; before, nobody can). vmnetd.ErrNotFound: the
// device with that index is not that NIC's.
func (h *Host) Rename(ctx context.Context, dev Device, name string) error {
	link, err := h.conn.LinkByIndex(ctx, dev.Ifindex)
	if err != nil {
		return err
	}
	if link.Alias != vmnetd.Alias(dev.VM, dev.ID) {
		return gone(dev)
	}
	if link.Name == name {
		return nil
	}
	err = h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: []rtnl.Attr{rtnl.Name(name)}})
	if errors.Is(err, unix.EEXIST) {
		return vmnetd.Errorf(vmnetd.ErrBusy, "somebody has renamed %s to %s, and another device has its name: %w", name, link.Name, err).
			WithNext(fmt.Sprintf("ip link set %s name ANOTHER", name))
	}
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "somebody has renamed %s to %s, and it cannot be renamed back: %w", name, link.Name, err).
			WithNext(fmt.Sprintf("ip link set %s name %s", link.Name, name))
	}
	return nil
}
