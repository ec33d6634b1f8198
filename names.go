package vmnetd

import (
	"crypto/sha256"
	"encoding/base32"
	"net"
	"strings"
	"unicode"
	"unicode/utf8"
)

// IfnamePrefix begins the name of every device of ours.
const IfnamePrefix = "vmn"

// MaxIfname is the longest device name in bytes (IFNAMSIZ-1, linux/if.h).
const MaxIfname = 15

const aliasPrefix = "vmnetd:"

var ifnameEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// FullName is VM/NIC.
func FullName(vm, id string) string { return vm + "/" + id }

// SplitFullName takes VM/NIC apart; ok is false when it is not of that form.
func SplitFullName(s string) (vm, id string, ok bool) {
	vm, id, ok = strings.Cut(s, "/")
	return vm, id, ok && CheckVMName(vm) == nil && CheckID(id) == nil
}

// Ifname is the name of the device of a VM's NIC: vmn and 10 base32
// characters of a hash of both.
func Ifname(vm, id string) string {
	sum := sha256.Sum256([]byte(FullName(vm, id)))
	return IfnamePrefix + strings.ToLower(ifnameEncoding.EncodeToString(sum[:]))[:10]
}

// Alias is the mark that a device of ours carries in its ifalias.
func Alias(vm, id string) string { return aliasPrefix + FullName(vm, id) }

// ParseAlias reads the mark; ok is false when the alias is not ours.
func ParseAlias(alias string) (vm, id string, ok bool) {
	rest, found := strings.CutPrefix(alias, aliasPrefix)
	if !found {
		return "", "", false
	}
	return SplitFullName(rest)
}

// CheckVMName refuses names that could escape from a path, a terminal or an
// option list: 1 to 128 bytes of valid UTF-8, no '/', no control character, no
// leading '-', not "." or "..".
func CheckVMName(name string) error {
	bad := func(why string) error {
		return Errorf(ErrInvalid, "VM name %q %s", name, why).WithNext("a VM name has 1 to 128 bytes, no '/', no control character and no leading '-'")
	}
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > 128:
		return bad("is longer than 128 bytes")
	case name == "." || name == "..":
		return bad("is a directory's name")
	case strings.HasPrefix(name, "-"):
		return bad("begins with '-'")
	case strings.Contains(name, "/"):
		return bad("contains '/'")
	case !utf8.ValidString(name):
		return bad("is not valid UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return bad("contains a control character")
	}
	return nil
}

const (
	goodID  = "an id is like net0 or lan.2"
	goodMAC = "leave it out for one that is made of VM and id, or write one such as 52:54:00:12:34:56"
)

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// CheckID refuses NIC ids that QEMU would not take as part of an id: a letter,
// then letters, digits, '-', '.', '_', 32 bytes at the most (QEMU
// util/id.c, id_wellformed).
func CheckID(id string) error {
	if id == "" || len(id) > 32 {
		return Errorf(ErrInvalid, "NIC id %q must have 1 to 32 characters", id).WithNext(goodID)
	}
	if !strings.Contains(letters, id[:1]) || strings.Trim(id, letters+"0123456789-._") != "" {
		return Errorf(ErrInvalid, "NIC id %q is not a letter followed by letters, digits, '-', '.' or '_'", id).WithNext(goodID)
	}
	return nil
}

// DeriveMAC makes the stable, locally administered unicast MAC (IEEE 802-2014
// 8.4) of a VM's NIC from seed, which is the VM's UUID or, where it has none,
// machine-id and name.
func DeriveMAC(seed, id string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("vmnetd mac\x00" + seed + "\x00" + id))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// ParseMAC reads a MAC that a NIC can have: six bytes, unicast, not all zero.
func ParseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6:
		return nil, Errorf(ErrInvalid, "MAC %q is not of the form 52:54:00:12:34:56", s).WithNext(goodMAC)
	case mac[0]&1 == 1:
		return nil, Errorf(ErrInvalid, "MAC %s is a multicast address: its first byte must be even", mac).WithNext(goodMAC)
	case mac.String() == "00:00:00:00:00:00":
		return nil, Errorf(ErrInvalid, "MAC %s is all zero", mac).WithNext(goodMAC)
	}
	return mac, nil
}

// Printable escapes what a terminal would act on.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			for _, c := range []byte(string(r)) {
				b.WriteString(`\x` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
			}
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
