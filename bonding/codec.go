package bonding

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// codec turns the text of an option into the value of its attribute, and back.
type codec interface {
	// canonical is the text as Read gives it, or why it is wrong.
	canonical(text string) (string, error)
	encode(attr int, text string, index func(string) (int, bool)) (rtnl.Attr, error)
	decode(v []byte, name func(int) string) string
	takes() string
}

// whole is a number, an enumeration where names are given.
type whole struct {
	size     int // bytes
	min, max int64
	names    []string
}

func number(size int, low, high int64) codec { return whole{size: size, min: low, max: high} }

func enum(size int, names ...string) codec {
	return whole{size: size, max: int64(len(names) - 1), names: names}
}

func flag() codec { return enum(1, offOn...) }

func (w whole) canonical(text string) (string, error) {
	if i := slices.Index(w.names, strings.ToLower(text)); i >= 0 {
		return w.names[i], nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < w.min || n > w.max {
		return "", fmt.Errorf("takes %s, not %q", w.takes(), text)
	}
	if w.names != nil {
		return w.names[n], nil
	}
	return strconv.FormatInt(n, 10), nil
}

func (w whole) encode(attr int, text string, _ func(string) (int, bool)) (rtnl.Attr, error) {
	text, err := w.canonical(text)
	if err != nil {
		return rtnl.Attr{}, err
	}
	n := int64(slices.Index(w.names, text))
	if w.names == nil {
		n, _ = strconv.ParseInt(text, 10, 64) // canonical has read it
	}
	v := make([]byte, w.size)
	switch w.size {
	case 1:
		v[0] = byte(n)
	case 2:
		binary.NativeEndian.PutUint16(v, uint16(n))
	default:
		binary.NativeEndian.PutUint32(v, uint32(n))
	}
	return rtnl.Attr{Type: attr, Value: v}, nil
}

func (w whole) decode(v []byte, _ func(int) string) string {
	n := int64(integer(v))
	if w.min < 0 {
		n = int64(int32(n))
	}
	if n >= 0 && n < int64(len(w.names)) {
		return w.names[n]
	}
	return strconv.FormatInt(n, 10)
}

func (w whole) takes() string {
	if len(w.names) > 0 {
		return strings.Join(w.names[:len(w.names)-1], ", ") + " or " + w.names[len(w.names)-1]
	}
	return fmt.Sprintf("%d to %d", w.min, w.max)
}

// integer reads a number of any of netlink's sizes.
func integer(v []byte) uint32 {
	switch len(v) {
	case 1:
		return uint32(v[0])
	case 2:
		return uint32(binary.NativeEndian.Uint16(v))
	case 4:
		return binary.NativeEndian.Uint32(v)
	}
	return 0
}

// addresses is a list of IP addresses of so many bytes; "" for none.
type addresses int

func (a addresses) list(text string) ([]netip.Addr, error) {
	var all []netip.Addr
	for one := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		ip, err := netip.ParseAddr(one)
		if err != nil || ip.BitLen() != 8*int(a) || ip.Zone() != "" {
			return nil, fmt.Errorf("takes %s, not %q", a.takes(), one)
		}
		all = append(all, ip)
	}
	if len(all) > maxTargets {
		return nil, fmt.Errorf("takes %d addresses at the most, not %d", maxTargets, len(all))
	}
	return all, nil
}

// maxTargets is BOND_MAX_ARP_TARGETS (include/net/bonding.h).
const maxTargets = 16

func (a addresses) canonical(text string) (string, error) {
	all, err := a.list(text)
	return join(all), err
}

func join(all []netip.Addr) string {
	var texts []string
	for _, ip := range all {
		texts = append(texts, ip.String())
	}
	return strings.Join(texts, ",")
}

func (a addresses) encode(attr int, text string, _ func(string) (int, bool)) (rtnl.Attr, error) {
	all, err := a.list(text)
	out := rtnl.Attr{Type: attr, Nest: []rtnl.Attr{}}
	for i, ip := range all {
		out.Nest = append(out.Nest, rtnl.Attr{Type: i, Value: ip.AsSlice()})
	}
	return out, err
}

func (addresses) decode(v []byte, _ func(int) string) string {
	var all []netip.Addr
	rtnl.Each(v, func(_ int, one []byte) {
		if ip, ok := netip.AddrFromSlice(one); ok {
			all = append(all, ip)
		}
	})
	return join(all)
}

func (a addresses) takes() string {
	if a == 4 {
		return "IPv4 addresses"
	}
	return "IPv6 addresses"
}

// macAddress is a hardware address.
type macAddress struct{}

func (m macAddress) canonical(text string) (string, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 == 1 {
		return "", fmt.Errorf("takes %s, not %q", m.takes(), text)
	}
	return mac.String(), nil
}

func (m macAddress) encode(attr int, text string, _ func(string) (int, bool)) (rtnl.Attr, error) {
	text, err := m.canonical(text)
	if err != nil {
		return rtnl.Attr{}, err
	}
	mac, err := net.ParseMAC(text)
	return rtnl.Attr{Type: attr, Value: mac}, err
}

func (macAddress) decode(v []byte, _ func(int) string) string { return net.HardwareAddr(v).String() }

func (macAddress) takes() string { return "a MAC such as 02:00:00:00:00:01" }

// port is a device, by name for people and by ifindex for the kernel; "" for
// none.
type port struct{}

func (port) canonical(text string) (string, error) { return text, nil }

func (port) encode(attr int, text string, index func(string) (int, bool)) (rtnl.Attr, error) {
	n := 0
	if text != "" {
		var ok bool
		if n, ok = index(text); !ok {
			return rtnl.Attr{}, fmt.Errorf("no device is named %q", text)
		}
	}
	return rtnl.Attr{Type: attr, Value: binary.NativeEndian.AppendUint32(nil, uint32(n))}, nil
}

func (port) decode(v []byte, name func(int) string) string {
	if n := int(integer(v)); n != 0 {
		return name(n)
	}
	return ""
}

func (port) takes() string { return "the name of a port" }
