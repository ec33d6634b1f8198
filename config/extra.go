package config

import (
	"net/netip"

	"github.com/vmnetd/vmnetd"
)

// rawExtra is extra: sources that a rule allows beside a NIC's own.
type rawExtra struct {
	macs got[[]got[string]]
	ips  got[[]got[netip.Prefix]]
}

var extraKeys = object[rawExtra]{what: "extra", rows: []row[rawExtra]{
	key("macs", func(e *rawExtra) *got[[]got[string]] { return &e.macs }, codec[got[[]got[string]]](oneOrMore(extraMAC, "a MAC or a list of them"))),
	key("ips", func(e *rawExtra) *got[[]got[netip.Prefix]] { return &e.ips }, codec[got[[]got[netip.Prefix]]](prefixes)),
}}

var extraMAC = scalar[string]{shapes: []shape{text}, want: "a MAC", read: func(s string) (string, error) {
	mac, err := vmnetd.ParseMAC(s)
	return mac.String(), err
}}

// noExtra is the row where extra is not taken: what it allows is meant for one VM.
func noExtra[T any](what string) []row[T] {
	return []row[T]{{name: "extra", never: "extra stands in a rule alone, not in " + what + ": it lets a guest use what is not its own"}}
}
