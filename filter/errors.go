package filter

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// explain says in one sentence why the kernel did not take a filter.
func explain(spec Spec, err error) error {
	var said *vmnetd.Error
	if errors.As(err, &said) {
		return err
	}
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOENT): // it has gone since it was looked up
		return vmnetd.Errorf(vmnetd.ErrNotFound, "no network device is named %s", vmnetd.Printable(spec.Ifname))
	case lacking(err):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel has no netdev %s hook (Linux %s): %w", spec.Hook, since[spec.Hook], err).
			WithNext("use a kernel with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_EGRESS, or no filter")
	case errors.Is(err, unix.EPERM):
		return vmnetd.Errorf(vmnetd.ErrDenied, "nf_tables takes no filter from this process: %w", err).
			WithNext("run it as root, or with CAP_NET_ADMIN")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "the filter of %s cannot be made: %w", spec.Ifname, err)
}

// since is the first Linux with a hook of the netdev family.
var since = map[string]string{Ingress: "4.2", Egress: "5.16"}

// lacking says that the kernel knows no nf_tables, no family netdev or no such
// hook (nf_tables_api.c, nft_chain_parse_hook).
func lacking(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
