package tapdev

import (
	"context"
	"net"

	"github.com/vmnetd/vmnetd"
)

// SetFilter implements agent.Devices.
func (h *Host) SetFilter(context.Context, Device, net.HardwareAddr, []net.HardwareAddr, bool) error {
	return vmnetd.Errorf(vmnetd.ErrUnsupported, "not yet")
}
