package dbusapi

import (
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

const (
	rootPath   = dbus.ObjectPath("/org/vmnetd1")
	attachPath = rootPath + "/attachment"
	uplinkPath = rootPath + "/uplink"
)

func attachmentPath(vm, id string) dbus.ObjectPath {
	return attachPath + dbus.ObjectPath("/"+escape(vm)+"/"+escape(id))
}

func uplinkObject(name string) dbus.ObjectPath { return uplinkPath + dbus.ObjectPath("/"+escape(name)) }

// parseAttachment takes an attachment's path apart.
func parseAttachment(path dbus.ObjectPath) (vm, id string, ok bool) {
	rest, found := strings.CutPrefix(string(path), string(attachPath)+"/")
	a, b, two := strings.Cut(rest, "/")
	vm, okVM := unescape(a)
	id, okID := unescape(b)
	return vm, id, found && two && okVM && okID
}

// escape writes a name as one element of an object path, as
// sd_bus_path_encode(3) does: letters, and digits that do not lead, stay;
// every other byte is _ and two hex digits; nothing is _.
func escape(name string) string {
	if name == "" {
		return "_"
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if letter || i > 0 && c >= '0' && c <= '9' {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'_', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

// unescape undoes escape; ok is false for what escape never writes, so that an
// object has one path.
func unescape(s string) (name string, ok bool) {
	if s == "_" {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '_' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), escape(b.String()) == s
}
