package tapdev

import (
	"context"
	"net"

	"github.com/vmnetd/vmnetd"
)

func HostMAC(kind vmnetd.Kind, mac net.HardwareAddr) net.HardwareAddr { return mac }

func (h *Host) Lacking(ctx context.Context) map[vmnetd.Kind]string { return nil }
