package hostlink

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Spec is a link to be.
type Spec struct {
	Network string
	Lower   int              // ifindex of the uplink's device, or of its VLAN
	Kind    vmnetd.Kind      // Macvlan or Ipvlan
	Mode    vmnetd.Mode      // bridge for a macvlan; as the ipvtaps beside it for an ipvlan
	Flag    string           // of an ipvlan
	MAC     net.HardwareAddr // of a macvlan
	IPs     []netip.Prefix   // of the host
	Guests  []netip.Addr     // addresses that policy gave guests: they are reached by it
	Claimed []netip.Addr     // addresses that guests were heard to use: reached by it inside a prefix of IPs, unless this host has them or sends by them
}

// Link is a link of ours as the kernel has it.
type Link struct {
	Network string
	Ifname  string
	Ifindex int
	Lower   int
	Kind    vmnetd.Kind
	Mode    vmnetd.Mode
	MAC     net.HardwareAddr
	IPs     []netip.Prefix
	Up      bool
}

// Host makes links in one network namespace.
type Host struct{ conn *rtnl.Conn }

// New makes a Host.
func New(conn *rtnl.Conn) *Host { return &Host{conn: conn} }

// ifnamePrefix is not vmnetd.IfnamePrefix: guests' devices are kept from the
// host's own network configuration, and this one need not be.
const ifnamePrefix = "vml"

const aliasPrefix = "vmnetd-host:"

// Ifname is the device's name for a network: vml and ten characters of a hash.
func Ifname(network string) string {
	sum := sha256.Sum256([]byte(aliasPrefix + network))
	return ifnamePrefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:10]
}

// tableOf is the routing table for what is sent from a link's addresses. Its first
// byte is our protocol number.
func tableOf(network string) int {
	sum := sha256.Sum256([]byte(aliasPrefix + network))
	return proto<<24 | int(binary.BigEndian.Uint32(sum[28:])>>8)
}

// plain is the spec with what goes without saying.
func (s Spec) plain() Spec {
	if s.Flag == "" {
		s.Flag = kinds[s.Kind].flag
	}
	return s
}

// check refuses what no link can be.
func (s Spec) check() error {
	invalid := func(format string, args ...any) *vmnetd.Error {
		return vmnetd.Errorf(vmnetd.ErrInvalid, format, args...)
	}
	k, known := kinds[s.Kind]
	switch {
	case s.Network == "" || len(s.Network) > 128 || vmnetd.Printable(s.Network) != s.Network:
		return invalid("%q is no network that can have a link of this host", s.Network)
	case !known:
		return invalid("this host cannot have a link of kind %q", s.Kind).WithNext("use macvlan, or ipvlan beside ipvtaps")
	case !k.modes[s.Mode]:
		return invalid("a %s of this host cannot be in mode %q", s.Kind, s.Mode)
	case !k.flags[s.Flag]:
		return invalid("a %s of this host cannot have the flag %q", s.Kind, s.Flag)
	case k.ownMAC && len(s.MAC) != 6:
		return invalid("a %s of this host needs a MAC", s.Kind)
	}
	return checkIPs(s.IPs)
}

func checkIPs(ips []netip.Prefix) error {
	if len(ips) == 0 {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "a link of this host needs an address of its own").WithNext("add --ip ADDRESS/LENGTH")
	}
	seen := map[netip.Addr]bool{}
	for _, p := range ips {
		a := p.Addr()
		switch {
		case !p.IsValid() || !a.IsGlobalUnicast() || a.Is4In6():
			return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is no address that a link of this host can have", p).WithNext("write it as 192.0.2.7/24 or 2001:db8::7/64")
		case seen[a]:
			return vmnetd.Errorf(vmnetd.ErrInvalid, "address %s is asked for twice", a).WithNext("name it once")
		}
		seen[a] = true
	}
	return nil
}

// networkOf reads a link as one of ours. ok is false for a foreign one; network is
// "" for one that was never marked: whoever made it ended before.
func networkOf(l rtnl.Link) (network string, ok bool) {
	if _, known := kinds[vmnetd.Kind(l.Kind)]; !known || !strings.HasPrefix(l.Name, ifnamePrefix) {
		return "", false
	}
	network, marked := strings.CutPrefix(l.Alias, aliasPrefix)
	if !marked {
		return "", l.Alias == ""
	}
	return network, Ifname(network) == l.Name
}

// IsOurs says whether a device is a link of ours, marked or about to be.
func IsOurs(l rtnl.Link) bool {
	_, ours := networkOf(l)
	return ours
}

// ParseAlias reads the mark of a link of ours in an ifalias; ok is false where it is
// none.
func ParseAlias(alias string) (network string, ok bool) { return strings.CutPrefix(alias, aliasPrefix) }
