package main

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// pick finds the attachment that is called what, or has that MAC or address.
// Guests that share their uplink's MAC are several.
func pick(all []vmnetd.Attachment, what string) (vmnetd.Attachment, error) {
	var found []vmnetd.Attachment
	for _, one := range all {
		if one.FullName() == what || one.Ifname == what {
			return one, nil
		}
		if hasAddress(one, what) {
			found = append(found, one)
		}
	}
	switch len(found) {
	case 0:
		return vmnetd.Attachment{}, notFound(all, what)
	case 1:
		return found[0], nil
	}
	return vmnetd.Attachment{}, vmnetd.Errorf(vmnetd.ErrInvalid, "%d NICs have %s", len(found), what).WithNext(showEach(found))
}

func hasAddress(one vmnetd.Attachment, what string) bool {
	if mac, err := net.ParseMAC(what); err == nil {
		return one.MAC == mac.String()
	}
	ip, err := netip.ParseAddr(what)
	return err == nil && slices.ContainsFunc(one.IPs, func(has string) bool {
		p, err := vmnetd.ParseIP(has)
		return err == nil && p.Addr() == ip
	})
}

func notFound(all []vmnetd.Attachment, what string) error {
	if _, err := netip.ParseAddr(what); err == nil {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "no NIC of ours is known to have %s", what).
			WithNext("vmnetd list; an address is known where it was given, or learned of the guest")
	}
	vm, _, _ := strings.Cut(what, "/")
	var near []vmnetd.Attachment
	for _, one := range all {
		if one.VM == vm {
			near = append(near, one)
		}
	}
	err := vmnetd.Errorf(vmnetd.ErrNotFound, "there is no NIC %q", what)
	if len(near) > 0 {
		return err.WithNext(showEach(near))
	}
	return err.WithNext("vmnetd list")
}

func showEach(nics []vmnetd.Attachment) string {
	var lines []string
	for _, one := range nics {
		lines = append(lines, "vmnetd show "+one.FullName())
	}
	return strings.Join(lines, ", or ")
}
