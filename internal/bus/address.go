package bus

import (
	"cmp"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

const systemBus = "unix:path=/run/dbus/system_bus_socket"

// Address is the system bus's: DBUS_SYSTEM_BUS_ADDRESS, or where every system
// has it.
func Address() string { return cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), systemBus) }

// sockets lists the unix sockets of a bus address in the form that net.Dial
// takes; "@name" is an abstract one. An address is several, separated by ';'
// (D-Bus specification, "Server Addresses").
func sockets(address string) ([]string, error) {
	var found []string
	for one := range strings.SplitSeq(address, ";") {
		keys, isUnix := strings.CutPrefix(one, "unix:")
		if !isUnix {
			continue
		}
		for kv := range strings.SplitSeq(keys, ",") {
			key, escaped, _ := strings.Cut(kv, "=")
			value, err := dbus.UnescapeBusAddressValue(escaped)
			switch {
			case err != nil || value == "":
			case key == "path":
				found = append(found, value)
			case key == "abstract":
				found = append(found, "@"+value)
			}
		}
	}
	if len(found) == 0 {
		return nil, vmnetd.Errorf(vmnetd.ErrUnreachable, "bus address %q names no unix:path or unix:abstract socket", address).
			WithNext("set DBUS_SYSTEM_BUS_ADDRESS to " + systemBus + ", or unset it")
	}
	return found, nil
}
