package testkit

import (
	"encoding/json"
	"fmt"
	"strings"
)

// PortSecurity is a switch port that takes only so many MACs, as clouds and access
// switches have it: the first ones that are heard. What comes from another one is
// dropped and counted.
type PortSecurity struct {
	net  *Netns
	name string // of its table
}

// NewPortSecurity makes one of a port: a device of a namespace, such as the port of
// a bridge that a host is plugged into.
func NewPortSecurity(t TB, n *Netns, port string, macs int) *PortSecurity {
	t.Helper()
	p := &PortSecurity{net: n, name: "security-" + port}
	n.nft(t, fmt.Sprintf(`
table netdev %s {
	set known { type ether_addr; size %d; flags dynamic; }
	counter dropped { }
	chain port {
		type filter hook ingress device %q priority 0; policy accept;
		add @known { ether saddr } accept
		counter name dropped drop
	}
}`, p.name, macs, port))
	return p
}

// MACs is whose frames the port takes.
func (p *PortSecurity) MACs(t TB) (macs []string) {
	t.Helper()
	p.read(t, "set", "known", func(o nftObject) {
		if o.Set == nil {
			return
		}
		for _, e := range o.Set.Elem {
			macs = append(macs, strings.Trim(string(e), `"`))
		}
	})
	return macs
}

// Dropped is how many frames it has not taken.
func (p *PortSecurity) Dropped(t TB) (frames int) {
	t.Helper()
	p.read(t, "counter", "dropped", func(o nftObject) {
		if o.Counter != nil {
			frames = o.Counter.Packets
		}
	})
	return frames
}

// nftObject is what of libnftables-json(5) is read here.
type nftObject struct {
	Set     *struct{ Elem []json.RawMessage }
	Counter *struct{ Packets int }
}

func (p *PortSecurity) read(t TB, kind, name string, each func(nftObject)) {
	t.Helper()
	out := p.net.Run(t, "nft", "-j", "list", kind, "netdev", p.name, name)
	var all struct{ Nftables []nftObject }
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("nft: %v in %s", err, out)
	}
	for _, o := range all.Nftables {
		each(o)
	}
}

// nft puts rules in force, in the language of nft(8).
func (n *Netns) nft(t TB, rules string) {
	t.Helper()
	n.Run(t, "sh", "-c", `printf %s "$1" | nft -f -`, "nft", rules)
}
