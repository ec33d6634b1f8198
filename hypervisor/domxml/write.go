package domxml

import (
	"encoding/xml" //nolint:depguard // EscapeText
	"fmt"
	"strings"
)

// XML is the <interface>, as virsh attach-device and virsh define take it. No
// <driver name>: libvirt takes vhost where the host has it. An Addr that is not of
// the form 0000:05:00.0 is left out.
func (e Element) XML() string {
	var b strings.Builder
	b.WriteString("<interface type='ethernet'>\n")
	line := func(wanted bool, format string, args ...any) {
		if wanted {
			b.WriteString("  " + fmt.Sprintf(format, args...) + "\n")
		}
	}
	line(true, "<mac address='%s'/>", escaped(e.MAC))
	line(true, "%s", e.target())
	line(true, "<model type='virtio'/>")
	line(e.Queues > 1, "<driver queues='%d'/>", e.Queues)
	line(e.LinkDown, "<link state='down'/>")
	line(e.MTU > 0, "<mtu size='%d'/>", e.MTU)
	line(pciXML(e.Addr) != "", "%s", pciXML(e.Addr))
	b.WriteString("</interface>")
	return b.String()
}

func (e Element) target() string {
	return fmt.Sprintf("<target dev='%s' managed='no'/>", escaped(e.Target))
}

// escaped is s as an attribute's value or text; what is no character of XML
// becomes U+FFFD.
func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder never fails
	return b.String()
}

// keptText escapes XML so that as text it comes back byte for byte and can still
// be read. A carriage return that is not escaped would come back as a newline.
var keptText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;")
