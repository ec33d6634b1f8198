package uplink

import (
	"os"
	"path/filepath"
)

// sysfsNet has a folder for every device of the namespace in which it was
// mounted.
const sysfsNet = "/sys/class/net"

// wireless says whether a device is one of 802.11: those, and no others, have a
// link to their radio (net/wireless/core.c, cfg80211_register_netdevice).
func wireless(ifname string) bool {
	_, err := os.Stat(filepath.Join(sysfsNet, ifname, "phy80211"))
	return err == nil
}
