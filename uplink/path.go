package uplink

import (
	"path/filepath"
	"strings"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// idPath is the place of a link's device in the machine, as udev's ID_PATH has
// it (udev-builtin-path_id.c): pci-0000:01:00.0. "" for a device that has none.
//
// The kernel says by netlink which device on which bus it is; /sys/bus then
// says where that sits. Unlike /sys/class/net, /sys/bus is the same in every
// network namespace.
func idPath(l rtnl.Link) string {
	switch l.ParentBus {
	case "":
		return ""
	case "pci", "platform":
		return l.ParentBus + "-" + l.ParentDev
	}
	if strings.Contains(l.ParentDev+l.ParentBus, "/") {
		return ""
	}
	place, err := filepath.EvalSymlinks(filepath.Join("/sys/bus", l.ParentBus, "devices", l.ParentDev))
	if err != nil {
		return ""
	}
	return pathFrom(place, l.ParentBus)
}

// pathFrom reads the path of a device in /sys/devices: the nearest PCI or
// platform device above it, and for USB the port as well. Virtio is left out,
// as udev does.
func pathFrom(place, bus string) string {
	parts := strings.Split(place, "/")
	usb := ""
	for i := len(parts) - 1; i > 0; i-- {
		p := parts[i]
		switch {
		case bus == "usb" && usb == "" && strings.Contains(p, "-") && strings.Contains(p, ":"):
			_, port, _ := strings.Cut(p, "-") // interface 1-2:1.0 of the device in port 2
			usb = "-usb-0:" + port
		case isPCI(p):
			return "pci-" + p + usb
		case i > 1 && parts[i-1] == "platform":
			return "platform-" + p + usb
		}
	}
	return ""
}

// isPCI knows an address: domain:bus:device.function, 0000:01:00.0.
func isPCI(s string) bool {
	rest, function, ok := strings.Cut(s, ".")
	fields := strings.Split(rest, ":")
	return ok && len(function) == 1 && len(fields) == 3 && len(fields[1]) == 2 && len(fields[2]) == 2 && len(fields[0]) >= 4
}
