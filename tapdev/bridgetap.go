package tapdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// tunDevice is what every tap is made and opened by. It is one for all network
// namespaces: a descriptor belongs to that of the thread which opened it
// (drivers/net/tun.c, tun_chr_open).
const tunDevice = "/dev/net/tun"

// tunSetIfindex is TUNSETIFINDEX, _IOW('T', 218, unsigned int), uapi/linux/if_tun.h.
const tunSetIfindex = 0x400454da

// tunMaker makes taps. There is no netlink message for it (tun_validate).
type tunMaker struct{}

// make has the device go with its maker, until it has our group and persists.
func (tunMaker) make(ctx context.Context, h *Host, s Spec, index int) error {
	fd, err := h.openTun()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if index != 0 {
		if err := unix.IoctlSetPointerInt(fd, tunSetIfindex, index); err != nil {
			return fmt.Errorf("TUNSETIFINDEX: %w", err)
		}
	}
	err = setFlags(fd, s.Ifname, queueFlags(s.Queues > 1)|unix.IFF_TUN_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", unix.EEXIST, err)
	}
	if err != nil {
		return err
	}
	link, err := h.conn.LinkByName(ctx, s.Ifname)
	if err != nil {
		return err
	}
	attrs := []rtnl.Attr{rtnl.Group(Group), rtnl.MAC(portMAC(s.MAC)), rtnl.MTU(s.MTU)}
	if err := h.conn.Set(ctx, rtnl.Change{Index: link.Index, Attrs: attrs}); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("TUNSETPERSIST: %w", err)
	}
	return nil
}

func (tunMaker) probe(_ context.Context, h *Host, _ kind) (string, error) {
	fd, err := h.openTun()
	if err != nil {
		return "", err
	}
	return h.tun + " opens", unix.Close(fd)
}

// openTun is a queue of no device yet, in the connection's namespace. EOPNOTSUPP: the
// kernel has no taps.
func (h *Host) openTun() (fd int, err error) {
	err = h.conn.Do(func() error {
		fd, err = unix.Open(h.tun, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("cannot open %s: %w: %w", h.tun, unix.EOPNOTSUPP, err)
	case err != nil:
		return -1, fmt.Errorf("cannot open %s: %w", h.tun, err)
	}
	return fd, nil
}

func isTap(l rtnl.Link) bool {
	t, _ := l.Tun()
	return t.Tap
}

// otherTap: how many queues a tap of several is for is nowhere in the kernel, only
// how many are open.
func otherTap(s Spec, l rtnl.Link) error {
	t, _ := l.Tun()
	switch {
	case t.MultiQueue && s.Queues == 1:
		return fmt.Errorf("several queues, not 1")
	case !t.MultiQueue && s.Queues > 1:
		return fmt.Errorf("1 queue, not %d", s.Queues)
	case t.Queues > s.Queues:
		return fmt.Errorf("%d queues are open, not %d", t.Queues, s.Queues)
	}
	return nil
}
