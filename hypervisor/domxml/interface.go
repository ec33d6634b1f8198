package domxml

import "strings"

// interfaceOf reads an <interface>. What is odd in it counts as not given:
// libvirt has checked its own.
func interfaceOf(e *element) Interface {
	target, source := e.kid("target"), e.kid("source")
	return Interface{
		Type:     e.attr("type"),
		MAC:      strings.ToLower(e.kid("mac").attr("address")),
		Target:   target.attr("dev"),
		Managed:  target.attr("managed") != "no",
		Model:    e.kid("model").attr("type"),
		Driver:   e.kid("driver").attr("name"),
		Queues:   max(1, number(e.kid("driver").attr("queues"), 1)),
		MTU:      number(e.kid("mtu").attr("size"), 0),
		LinkDown: e.kid("link").attr("state") == "down",
		Alias:    e.kid("alias").attr("name"),
		Addr:     pciOf(e.kid("address")),
		Source: Source{
			Dev: source.attr("dev"), Mode: source.attr("mode"),
			Bridge: source.attr("bridge"), Network: source.attr("network"),
		},
	}
}
