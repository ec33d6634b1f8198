package tapdev

import (
	"net"

	"github.com/vmnetd/vmnetd"
)

// Spec is a tap device to be.
type Spec struct {
	VM     string
	ID     string
	Ifname string // vmnetd.Ifname(VM, ID)
	Lower  int    // ifindex of the lower device
	Mode   vmnetd.Mode
	MAC    net.HardwareAddr
	MTU    int // bytes; 0: the lower device's
	Queues int // queue pairs, 1 to 256 (MAX_TAP_QUEUES, include/linux/if_tap.h)
}

// Device is a tap device of ours as the kernel has it.
type Device struct {
	VM      string
	ID      string
	Ifname  string
	Ifindex int
	Lower   int
	Mode    vmnetd.Mode
	MAC     net.HardwareAddr
	MTU     int
	Queues  int
	Up      bool
	Rdev    uint64 // device number of its character device, linux/kdev_t.h
}
