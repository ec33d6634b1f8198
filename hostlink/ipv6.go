package hostlink

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vmnetd/vmnetd"
)

func has6(ips []netip.Prefix) bool {
	return slices.ContainsFunc(ips, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// setIPv6 switches IPv6 on or off on a device. On, it listens to no router: one on
// the uplink would give it more addresses and the host another default route.
// There is no netlink message for these (net/ipv6/addrconf.c, inet6_set_link_af).
func (h *Host) setIPv6(name string, on bool) error {
	type setting struct{ file, value string }
	settings := []setting{{"disable_ipv6", "1"}}
	if on {
		settings = []setting{{"accept_ra", "0"}, {"autoconf", "0"}, {"disable_ipv6", "0"}}
	}
	return h.conn.Do(func() error {
		for _, s := range settings {
			err := write(filepath.Join("/proc/sys/net/ipv6/conf", name, s.file), s.value)
			if !on && errors.Is(err, fs.ErrNotExist) {
				return nil // a kernel without IPv6
			}
			if err != nil {
				return vmnetd.Errorf(vmnetd.ErrFailed, "cannot set %s of %s: %w", s.file, name, err)
			}
		}
		return nil
	})
}

// write changes nothing where the value is there already: every write to
// disable_ipv6 takes the rtnl lock.
func write(path, value string) error {
	now, err := os.ReadFile(path)
	if err != nil || string(now) == value+"\n" {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(value); err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", value, err), f.Close())
	}
	return f.Close()
}
