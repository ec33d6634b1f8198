package tapdev

import (
	"bytes"
	"context"
	"fmt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// fits says why a device cannot stand on its lower one as it is asked for, where
// the kernel would not, or would do harm to others.
func (h *Host) fits(ctx context.Context, spec Spec, lower rtnl.Link) error {
	if spec.MTU > lower.MTU {
		return vmnetd.Errorf(vmnetd.ErrBusy, "MTU %d of %s is larger than %d of %s", spec.MTU, vmnetd.FullName(spec.VM, spec.ID), lower.MTU, lower.Name).
			WithNext(fmt.Sprintf("ask for at most %d, or raise the MTU of %s", lower.MTU, lower.Name))
	}
	k := spec.must()
	if k.lower.port {
		return spec.Port.fits(spec.what(), lower)
	}
	if !k.sharesMAC {
		return nil
	}
	if !bytes.Equal(spec.MAC, lower.MAC) {
		return vmnetd.Errorf(vmnetd.ErrBusy, "cannot make %s on %s with the MAC %s: it has that of %s, %s", spec.what(), lower.Name, spec.MAC, lower.Name, lower.MAC).
			WithNext("ask for that MAC, or for none, or use another mode")
	}
	return h.agrees(ctx, spec, lower)
}

// agrees says who on the lower device has another mode or flag: both are the lower
// device's, and the device that comes last turns all others over
// (drivers/net/ipvlan/ipvlan_main.c, ipvlan_link_new). Those that were moved to
// other namespaces are not seen from here.
func (h *Host) agrees(ctx context.Context, spec Spec, lower rtnl.Link) error {
	for _, u := range h.users(ctx, lower.Index) {
		if u.Name == spec.Ifname || vmnetd.FamilyOf(u.Kind) != vmnetd.FamilyIpvlan {
			continue
		}
		if u.Mode != string(spec.Mode) || u.Flag != spec.flag() {
			return vmnetd.Errorf(vmnetd.ErrBusy, "cannot make %s on %s with the flag %s: %s is %s with the flag %s, and all devices on %s are alike",
				spec.what(), lower.Name, spec.flag(), holder(u), u.Mode, u.Flag, lower.Name).
				WithNext("ask for what that has, detach it, or use another uplink")
		}
	}
	return nil
}

// what names kind and mode to people: "macvtap bridge".
func (s Spec) what() string { return string(s.must().name) + " " + string(s.Mode) }
