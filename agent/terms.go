package agent

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/filter"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/tapdev"
)

// terms are what policy gave a NIC beside its place: what it may send, and by
// which addresses it is known.
type terms struct {
	Flag      string             `json:"flag,omitempty"`
	IPs       []netip.Prefix     `json:"given_ips,omitempty"`
	Routes    []tapdev.Route     `json:"given_routes,omitempty"`
	Learn     bool               `json:"learn,omitempty"`
	Within    []netip.Prefix     `json:"within,omitempty"`
	MaxIPs    int                `json:"max_ips,omitempty"`
	BCQueue   int                `json:"bcqueuelen,omitempty"`
	Filter    policy.Filtered    `json:"filter,omitzero"`
	Extra     policy.Extra       `json:"extra,omitzero"`
	Bandwidth policy.Bandwidth   `json:"bandwidth,omitzero"`
	Port      policy.Ported      `json:"port,omitzero"`
	Trunk     []vmnetd.VLANRange `json:"trunk,omitempty"`
}

func termsOf(d policy.Decision) terms {
	t := terms{
		Flag: d.Flag, IPs: d.IPs, Learn: d.Learn, Within: d.Within, MaxIPs: d.MaxIPs, BCQueue: d.BCQueue,
		Filter: d.Filter, Extra: d.Extra, Bandwidth: d.Bandwidth, Port: d.Port, Trunk: d.Trunk,
	}
	for _, route := range d.Routes {
		t.Routes = append(t.Routes, tapdev.Route{To: route.To, Via: route.Via})
	}
	return t
}

// gives says whether a guest may have an address that is learned: any, or one of
// those prefixes; in IPv6 its link-local ones in any case (RFC 4291 2.8).
func (t terms) gives(ip netip.Addr) bool {
	return len(t.Within) == 0 || slices.ContainsFunc(t.mayLearn(), func(p netip.Prefix) bool { return p.Contains(ip) })
}

// mayLearn is where a guest's addresses lie, where that is limited.
func (t terms) mayLearn() []netip.Prefix {
	if !t.Learn || len(t.Within) == 0 {
		return nil
	}
	return append(slices.Clone(t.Within), linkLocal6)
}

var linkLocal6 = netip.MustParsePrefix("fe80::/10")

// known is every address of a NIC: given, and heard.
func (r record) known() []netip.Prefix {
	all := slices.Clone(r.Terms.IPs)
	for _, h := range r.Heard {
		all = append(all, netip.PrefixFrom(h.IP, h.IP.BitLen()))
	}
	return all
}

// given says that policy gave the NIC an address.
func (r record) given(ip netip.Addr) bool {
	return slices.ContainsFunc(r.Terms.IPs, func(p netip.Prefix) bool { return p.Addr() == ip })
}

// delivered is what an ipvtap's device must have for the guest to hear it.
func (r record) delivered() []netip.Prefix {
	all := r.known()
	for _, p := range r.Terms.Extra.IPs {
		if p.IsSingleIP() {
			all = append(all, p)
		}
	}
	return all
}

// showIPs puts the addresses where everybody sees them.
func (r *record) showIPs() {
	r.IPs, r.Learned, r.GuestSide, r.Routes = []string{}, nil, nil, nil
	for _, p := range r.Terms.IPs {
		r.IPs = append(r.IPs, r.written(p))
	}
	for _, h := range r.Heard {
		r.IPs, r.Learned = append(r.IPs, h.IP.String()), append(r.Learned, h.IP.String())
	}
	if r.Mode.Info().Routed {
		for _, p := range r.known() {
			r.GuestSide = append(r.GuestSide, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String())
		}
	}
	for _, route := range r.Terms.Routes {
		r.Routes = append(r.Routes, vmnetd.RouteText(route.To, route.Via))
	}
}

// written is an address as it was asked for: a guest's has no length.
func (r record) written(p netip.Prefix) string {
	if r.endpoint() {
		return p.String()
	}
	return p.Addr().String()
}

// guard is the filter and the bandwidth of the record's device.
func (r record) guard(ifname string) (filter.Spec, error) {
	s := filter.Spec{
		Ifname: ifname, Hook: r.Mode.Sends(r.Kind),
		DHCPServer: r.Terms.Filter.DHCPServer, RA: r.Terms.Filter.RA, Ethertypes: r.Terms.Filter.Ethertypes,
		Broadcast: r.Terms.Filter.Broadcast, Multicast: r.Terms.Filter.Multicast,
		In: filter.Rate(r.Terms.Bandwidth.In), Out: filter.Rate(r.Terms.Bandwidth.Out),
	}
	if !r.Terms.Filter.Spoof {
		return s, nil
	}
	macs, err := r.sources()
	if err != nil {
		return s, err
	}
	s.Spoof, s.MACs, s.Trunk, s.Learn = true, macs, r.Terms.Trunk, r.Terms.Learn
	s.IPs = append(r.hosts(), r.Terms.Extra.IPs...)
	s.Pin4, s.Pin6 = r.pinned()
	if within := r.Terms.mayLearn(); within != nil { // until it owns up to one, it has one of these
		s.IPs = append(s.IPs, slices.DeleteFunc(within, func(p netip.Prefix) bool { return p.Addr().Is4() && s.Pin4 || p.Addr().Is6() && s.Pin6 })...)
		s.Pin4, s.Pin6 = true, true
	}
	return s, nil
}

// sources is the MACs that the guest may send from.
func (r record) sources() ([]net.HardwareAddr, error) {
	own, err := r.mac()
	if err != nil {
		return nil, err
	}
	macs := []net.HardwareAddr{own}
	for _, text := range r.Terms.Extra.MACs {
		mac, err := vmnetd.ParseMAC(text)
		if err != nil {
			return nil, err
		}
		macs = append(macs, mac)
	}
	return macs, nil
}

// hosts is the known addresses without the length of what they are in.
func (r record) hosts() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range r.known() {
		all = append(all, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	return all
}

// pinned says whether the sources of IPv4 and IPv6 are known: of a NIC that was
// given addresses, these are all; one whose addresses are learned says which it
// has in each family by itself.
func (r record) pinned() (v4, v6 bool) {
	if len(r.Terms.IPs) > 0 {
		return true, true
	}
	for _, h := range r.Heard {
		v4, v6 = v4 || h.IP.Is4(), v6 || h.IP.Is6()
	}
	return v4, v6
}

// port is how a switched NIC stands on its bridge.
func (r record) port() tapdev.Port {
	p := r.Terms.Port
	return tapdev.Port{PVID: r.VLAN, Trunk: r.Terms.Trunk, Hairpin: p.Hairpin, Isolated: p.Isolated, Learning: p.Learning, BPDUGuard: p.BPDUGuard}
}

// givenIPs is the addresses that were asked for, as they are kept with the NIC for
// another start of its VM.
func (r record) givenIPs() string {
	var ips []string
	for _, text := range r.Request.IPs {
		if ip, _, _ := strings.Cut(text, "/"); ip != "" {
			ips = append(ips, ip)
		}
	}
	return strings.Join(ips, ",")
}

// splitIPs reads what givenIPs wrote.
func splitIPs(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
