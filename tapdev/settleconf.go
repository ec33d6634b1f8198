package tapdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// setting is one file of /proc/sys/net/ipv4/conf/NAME or ipv6 (Documentation/
// networking/ip-sysctl.rst), which shows the namespace of the thread that opens it.
type setting struct{ name, value string }

// quietIPv6 is IPv6 on a guest's device: on, because an ipvlan learns a guest's address
// when it is put on the netdev (drivers/net/ipvlan/ipvlan_main.c, ipvlan_addr6_event),
// and with nothing that this namespace would make or ask by itself. Addresses outlive
// a link that is set down, but for link-local ones.
var quietIPv6 = []setting{
	{"accept_ra", "0"}, {"autoconf", "0"}, {"accept_dad", "0"}, {"router_solicitations", "0"}, {"keep_addr_on_down", "1"},
	{"disable_ipv6", "0"}, // last
}

// quieten prepares a guest's device for its addresses, and has it receive all
// multicasts: the filter hears of this namespace's groups, not of the guest's.
func (h *Host) quieten(ctx context.Context, link rtnl.Link) error {
	ch := rtnl.Change{Index: link.Index}
	if !link.AllMulti {
		ch.Flags, ch.Mask = unix.IFF_ALLMULTI, unix.IFF_ALLMULTI
	}
	if link.Inet6 && !link.AddrGenNone {
		ch.Attrs = append(ch.Attrs, rtnl.AddrGenNone())
	}
	if ch.Mask != 0 || ch.Attrs != nil {
		if err := h.conn.Set(ctx, ch); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot prepare %s: %w", link.Name, err)
		}
	}
	return h.setConf("ipv6", link.Name, quietIPv6)
}

// enableIPv6 switches IPv6 on for a device that is to have an IPv6 address: container
// runtimes switch it off for all devices to come.
func (h *Host) enableIPv6(link rtnl.Link, s Settings) error {
	for _, p := range s.IPs {
		if p.Addr().Is6() {
			return h.setConf("ipv6", link.Name, []setting{{"disable_ipv6", "0"}})
		}
	}
	return nil
}

// setConf writes what differs. A device without IPv6 (a kernel without it, an MTU
// below 1280) has no such files, and that is fine as long as nobody wants an address.
func (h *Host) setConf(family, ifname string, settings []setting) error {
	return h.conn.Do(func() error {
		for _, s := range settings {
			path := filepath.Join("/proc/sys/net", family, "conf", ifname, s.name)
			if err := writeSetting(path, s.value); err != nil {
				return vmnetd.Errorf(vmnetd.ErrFailed, "cannot prepare %s: %w", ifname, err)
			}
		}
		return nil
	})
}

func writeSetting(path, value string) error {
	is, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case string(is) == value+"\n":
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(value); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return errors.Join(err, f.Close())
}
