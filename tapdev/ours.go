package tapdev

import (
	"context"

	"github.com/vmnetd/vmnetd"
)

// Find is the device of ours with that name; vmnetd.ErrNotFound when there is
// none, and for one that was never marked.
func (h *Host) Find(ctx context.Context, ifname string) (Device, error) {
	link, err := h.conn.LinkByName(ctx, ifname)
	if err != nil {
		return Device{}, err
	}
	dev, ours := device(link)
	if !ours || dev.halfMade() || dev.Ifname != ifname {
		return Device{}, vmnetd.Errorf(vmnetd.ErrNotFound, "%s is not a device of ours", vmnetd.Printable(ifname))
	}
	dev.Rdev, err = h.rdev(link)
	return dev, err
}

// Ours is every device with our prefix and our alias, and those half made:
// with our prefix and group and no alias, and neither VM nor ID. Rdev is not
// filled in.
func (h *Host) Ours(ctx context.Context) ([]Device, error) {
	links, err := h.conn.Links(ctx)
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot list the devices: %w", err).WithNext("try again")
	}
	var devs []Device
	for _, l := range links {
		if d, ours := device(l); ours {
			devs = append(devs, d)
		}
	}
	return devs, nil
}
