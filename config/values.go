package config

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

// Limits of values.
const (
	minMTU     = 68        // ETH_MIN_MTU, include/uapi/linux/if_ether.h
	maxMTU     = 65535     // ETH_MAX_MTU
	maxQueues  = 256       // MAX_TAP_QUEUES, include/linux/if_tap.h
	maxName    = 64        // of a network
	maxSunPath = 107       // sizeof(sun_path)-1, unix(7)
	maxVLAN    = 4094      // IEEE 802.1Q 9.6: 4095 is reserved; 0 tags the priority alone
	maxAgeing  = 1_000_000 // s, IEEE 802.1Q table 8-6
)

// The scalars of the schema.
var (
	plainText   = scalar[string]{shapes: []shape{text}, want: "text", read: checked(notEmpty)}
	uplinkName  = scalar[string]{shapes: []shape{text}, want: "a name", read: checked(checkUplinkName)}
	portName    = scalar[string]{shapes: []shape{text}, want: "a port's name", read: checked(checkDeviceName)}
	bondValue   = scalar[string]{shapes: []shape{text, number}, want: "a value as the kernel's bonding takes it", hint: "a value is one word or number, such as fast, on or 100", read: checked(notEmpty)}
	wholeNumber = scalar[int]{shapes: []shape{number}, want: "a whole number", read: readWhole}
	yesOrNo     = scalar[bool]{shapes: []shape{truth}, want: "true or false", read: readTruth}
	ipAddress   = scalar[netip.Addr]{shapes: []shape{text}, want: "an IP address", read: readAddress}
	vlanID      = scalar[int]{shapes: []shape{number}, want: fmt.Sprintf("a number from 1 to %d", maxVLAN), read: readWithin("VLAN", 1, maxVLAN)}
	ageingTime  = scalar[int]{shapes: []shape{number}, want: fmt.Sprintf("a number of seconds from 1 to %d", maxAgeing), read: readWithin("ageing_time", 1, maxAgeing)}
	linkMode    = scalar[string]{shapes: []shape{text}, want: "keep or follow", read: checked(checkLink)}
	macChange   = scalar[string]{shapes: []shape{text}, want: "allow or deny", read: checked(checkMACChange)}
	libvirtURI  = scalar[string]{shapes: []shape{text}, want: "a URI or none", read: checked(checkLibvirtURI)}
	deviceName  = scalar[string]{shapes: []shape{text}, want: "a device's name", read: checked(checkDeviceName)}
	devicePath  = scalar[string]{shapes: []shape{text}, want: "a device's path", read: checked(checkDevicePath)}
	networkName = scalar[string]{shapes: []shape{text}, want: "a name", read: checked(checkNetworkName)}
	reference   = scalar[string]{shapes: []shape{text}, want: "a name", read: checked(notEmpty)}
	vmName      = scalar[string]{shapes: []shape{text}, want: "a VM's name", read: checked(vmnetd.CheckVMName)}
	nicID       = scalar[string]{shapes: []shape{text}, want: "a NIC's id", read: checked(vmnetd.CheckID)}
	vmGlob      = scalar[string]{shapes: []shape{text}, want: "a VM's name or a glob", read: checked(globOf(vmnetd.CheckVMName))}
	nicGlob     = scalar[string]{shapes: []shape{text}, want: "a NIC's id or a glob", read: checked(globOf(vmnetd.CheckID))}
	macGlob     = scalar[string]{shapes: []shape{text}, want: "a MAC or a glob of MACs", read: readMACGlob}
	macAddress  = scalar[net.HardwareAddr]{shapes: []shape{text}, want: "a MAC", read: vmnetd.ParseMAC}
	uuid        = scalar[string]{shapes: []shape{text}, want: "a UUID", read: readUUID}
	mtu         = scalar[int]{shapes: []shape{number}, want: fmt.Sprintf("a number from %d to %d", minMTU, maxMTU), read: readWithin("MTU", minMTU, maxMTU)}
	queues      = scalar[policy.Queues]{shapes: []shape{number, text}, want: fmt.Sprintf("auto or a number from 1 to %d", maxQueues), read: readQueues}
	busName     = scalar[string]{shapes: []shape{text}, want: "a QEMU bus", read: checked(checkBus)}
	slot        = scalar[string]{shapes: []shape{text, number}, want: "a slot", read: checked(checkSlot)} // 5 and 5.0 are numbers to YAML
	socket      = scalar[string]{shapes: []shape{text}, want: "a path with {vm}", read: checked(checkSocket)}
	denyReason  = scalar[string]{shapes: []shape{text}, want: "text", hint: `write the reason: deny: "INC-4711"`, read: checked(notEmpty)}
)

func notEmpty(s string) error {
	if strings.TrimSpace(s) == "" {
		return invalid("an empty value")
	}
	return nil
}

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl)
}

// plainName says whether s is a letter or digit, then also '-', '.' and '_'.
func plainName(s string) bool {
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("-._", r)) {
			return false
		}
	}
	return s != ""
}

// checkUplinkName is narrower than the kernel, which takes ESC, "%d" (and
// expands it) and names that look like options: an uplink's name is a device's
// name as soon as we make the device.
func checkUplinkName(s string) error {
	if len(s) > vmnetd.MaxIfname {
		return invalid("uplink name %q has %d characters, %d are possible", s, len(s), vmnetd.MaxIfname).
			WithNext("a device's longer altname goes into match: give the uplink a short name and nic: {match: {name: …}}")
	}
	if !plainName(s) {
		return invalid("uplink name %q is not letters, digits, '-', '.' and '_', beginning with a letter or digit", s)
	}
	return nil
}

func checkNetworkName(s string) error {
	if len(s) > maxName {
		return invalid("network name %q has %d characters, %d are possible", s, len(s), maxName)
	}
	if !plainName(s) {
		return invalid("network name %q is not letters, digits, '-', '.' and '_', beginning with a letter or digit", s)
	}
	return nil
}

// checkDeviceName goes by the kernel (dev_valid_name, net/core/dev.c): the
// device is there already, whatever it is called.
func checkDeviceName(s string) error {
	switch {
	case s == "" || s == "." || s == "..":
		return invalid("%q is no device's name", s)
	case len(s) > vmnetd.MaxIfname:
		return invalid("device name %q has %d characters, %d are possible", s, len(s), vmnetd.MaxIfname)
	case strings.ContainsAny(s, "/:") || strings.ContainsFunc(s, unicode.IsSpace):
		return invalid("device name %q has a space, '/' or ':' in it", s)
	}
	return nil
}

// checkDevicePath wants the form of udev's ID_PATH: pci-0000:01:00.0.
func checkDevicePath(s string) error {
	bus, rest, found := strings.Cut(s, "-")
	if !found || bus == "" || rest == "" || strings.ContainsAny(s, "/ \t") {
		return invalid("path %q is not of the form pci-0000:01:00.0", s).WithNext("udevadm info -q property -p /sys/class/net/DEVICE shows it as ID_PATH")
	}
	return nil
}

// globOf checks a glob; one without any pattern in it is checked as a name.
func globOf(name func(string) error) func(string) error {
	return func(s string) error {
		if !strings.ContainsAny(s, `*?[\`) {
			return name(s)
		}
		if _, err := path.Match(s, ""); err != nil {
			return badGlob(s)
		}
		if strings.Contains(s, "/") {
			return invalid("%q can never match: no name has a '/'", s)
		}
		return nil
	}
}

func badGlob(s string) *vmnetd.Error {
	return invalid("bad glob %q", s).WithNext(`* is any text, ? one character, [a-c] one of these; \ before a character takes it as it is`)
}

func readMACGlob(s string) (string, error) {
	s = strings.ToLower(s)
	if !strings.ContainsAny(s, `*?[\`) {
		mac, err := vmnetd.ParseMAC(s)
		return mac.String(), err
	}
	if _, err := path.Match(s, ""); err != nil {
		return "", badGlob(s)
	}
	if strings.Trim(s, "0123456789abcdef:*?[]^-") != "" {
		return "", invalid("MAC glob %q has characters that no MAC has", s).WithNext(`MACs are written 52:54:00:12:34:56; a glob of them is "52:54:00:*"`)
	}
	return s, nil
}

func readUUID(s string) (string, error) {
	s = strings.ToLower(s)
	const form = "00000000-0000-0000-0000-000000000000"
	ok := len(s) == len(form)
	for i := 0; ok && i < len(s); i++ {
		ok = form[i] == '-' && s[i] == '-' || form[i] != '-' && strings.IndexByte("0123456789abcdef", s[i]) >= 0
	}
	switch {
	case !ok:
		return "", invalid("UUID %q is not of the form 6ba7b810-9dad-11d1-80b4-00c04fd430c8", s)
	case s == form:
		return "", invalid("an all-zero UUID never matches: it means that a VM has none")
	}
	return s, nil
}

// Protocols of a VLAN, as `ip link` writes them.
const (
	dot1Q  = "802.1Q"
	dot1AD = "802.1ad"
)

// vlanProtocol takes 802.1q as well.
var vlanProtocol = scalar[string]{shapes: []shape{text}, want: dot1Q + " or " + dot1AD, read: func(s string) (string, error) {
	for _, known := range []string{dot1Q, dot1AD} {
		if strings.EqualFold(s, known) {
			return known, nil
		}
	}
	return "", invalid("VLAN protocol %q is neither %s nor %s", s, dot1Q, dot1AD)
}}

func checkLink(s string) error {
	if s != policy.LinkKeep && s != policy.LinkFollow {
		return invalid("link %q is neither %s nor %s", s, policy.LinkKeep, policy.LinkFollow).
			WithNext("keep: the guest's link stays up without carrier; follow: it goes down after 3 s")
	}
	return nil
}

func checkMACChange(s string) error {
	if s != policy.ChangeAllow && s != policy.ChangeDeny {
		return invalid("change %q is neither %s nor %s", s, policy.ChangeAllow, policy.ChangeDeny).
			WithNext("deny: the NIC keeps its MAC whatever the guest does; allow: it follows the guest's")
	}
	return nil
}

// The URIs of libvirt that are taken: the devices are made on this host, by its
// root, for the daemon that runs VMs as the system.
const (
	noLibvirt     = "none"
	defaultURI    = "qemu:///system"
	libvirtSocket = defaultURI + "?socket="
)

func checkLibvirtURI(s string) error {
	const forms = defaultURI + ", " + libvirtSocket + "/path/of/libvirt-sock, or none"
	socket, bySocket := strings.CutPrefix(s, libvirtSocket)
	switch {
	case s == noLibvirt || s == defaultURI:
		return nil
	case !bySocket:
		return invalid("libvirt's URI %q is not of this host's system", s).WithNext("write " + forms)
	case !path.IsAbs(socket) || path.Clean(socket) != socket || socket == "/" || strings.ContainsAny(socket, "&#%"):
		return invalid("the socket %q in libvirt's URI is not an absolute path without '.', '..', '&', '#' and '%%'", socket).WithNext("write " + forms)
	case len(socket) > maxSunPath:
		return invalid("the socket in libvirt's URI is too long: a unix socket's path takes %d bytes", maxSunPath)
	}
	return nil
}

func readAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, invalid("%q is not the IP address of one host", s).WithNext("write one such as 192.0.2.1 or 2001:db8::1")
	}
	return a, nil
}

func readTruth(s string) (bool, error) { return strings.EqualFold(s, "true"), nil }

func readWhole(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, invalid("%s is not a whole number", s)
	}
	return n, nil
}

func readWithin(what string, low, high int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return 0, invalid("%s %s is not a whole number from %d to %d", what, s, low, high)
		}
		return n, nil
	}
}

func readQueues(s string) (policy.Queues, error) {
	if s == "auto" {
		return policy.Queues{Given: true, Auto: true}, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxQueues {
		return policy.Queues{}, invalid("queues %s is neither auto nor a whole number from 1 to %d", s, maxQueues)
	}
	return policy.Queues{Given: true, N: n}, nil
}

func checkBus(s string) error {
	if !plainName(s) {
		return invalid("bus %q is not a QEMU bus such as pci.0", s)
	}
	return nil
}

// checkSlot takes what QEMU's addr property takes: a slot in hexadecimal, with
// or without a function (hw/core/qdev-properties-system.c, set_pci_devfn).
func checkSlot(s string) error {
	dev, fn, hasFn := strings.Cut(strings.TrimPrefix(s, "0x"), ".")
	n, err := strconv.ParseUint(dev, 16, 8)
	f, fnErr := strconv.ParseUint(fn, 8, 8)
	if err != nil || n > 31 || hasFn && (fnErr != nil || f > 7) {
		return invalid("addr %q is not a PCI slot such as 5 or 1f.0 (hexadecimal, up to 1f.7)", s)
	}
	return nil
}

// checkSocket checks a pattern of QMP sockets.
func checkSocket(s string) error {
	const vm = "{vm}"
	switch {
	case !strings.HasPrefix(s, "/"):
		return invalid("socket pattern %q is not an absolute path", s)
	case strings.Count(s, vm) != 1 || strings.ContainsAny(strings.Replace(s, vm, "", 1), "{}"):
		return invalid("socket pattern %q must have {vm} in it once, and no other braces", s).
			WithNext("{vm} stands for the VM's name: /run/vmnetd/qmp/{vm}.sock")
	case path.Clean(s) != s:
		return invalid("socket pattern %q has '.', '..' or '//' in it, or ends with '/'", s).WithNext("write " + path.Clean(s))
	case len(s)-len(vm)+1 > maxSunPath:
		return invalid("socket pattern %q is too long: a unix socket's path takes %d bytes", s, maxSunPath)
	case coversLibvirt(s):
		return invalid("that is libvirt's own monitor: QEMU serves one client at a time on it, and libvirt is there").
			WithNext("give the VM a second socket: <qemu:commandline>, -qmp unix:/run/vmnetd/qmp/NAME.sock,server=on,wait=off")
	}
	return nil
}

// coversLibvirt says whether a pattern reaches the monitors that libvirt makes
// for itself: domain-ID-NAME/monitor.sock in its folder (libvirt,
// src/qemu/qemu_domain.c and qemu_process.c). A pattern that ends with the
// component of {vm} opens all that is beneath its folder.
func coversLibvirt(pattern string) bool {
	const folder, domain, monitor = "/var/lib/libvirt/qemu/", "/var/lib/libvirt/qemu/domain-", "monitor.sock"
	before, after, _ := strings.Cut(pattern, "{vm}")
	dir := before[:strings.LastIndexByte(before, '/')+1]
	_, rest, deep := strings.Cut(after, "/")
	if deep {
		return dir == folder && rest == monitor
	}
	return strings.HasPrefix(domain, dir) || strings.HasPrefix(dir, domain)
}
