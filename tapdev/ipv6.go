package tapdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// disableIPv6 switches IPv6 off on a device. There is no netlink message for
// it (net/ipv6/addrconf.c, inet6_set_link_af takes addrgenmode and a token
// only), and /proc/sys/net shows the namespace of the thread that opens it.
func (h *Host) disableIPv6(name string) error {
	return h.conn.Do(func() error {
		path := filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("cannot switch IPv6 off: %w", err)
		}
		_, err = f.WriteString("1")
		return errors.Join(err, f.Close())
	})
}
