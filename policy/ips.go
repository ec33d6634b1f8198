package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// maxIPs bounds the addresses of one request.
const maxIPs = 256

// parseIPs reads the addresses asked for. Those of a VM are whole: how long the
// prefix is says the guest's own configuration.
func (c *choice) parseIPs() error {
	if len(c.req.IPs) > maxIPs {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%d IPs: a NIC has at most %d", len(c.req.IPs), maxIPs)
	}
	seen := map[netip.Addr]bool{}
	for _, text := range c.req.IPs {
		p, err := ParseIP(text)
		switch {
		case err != nil:
			return err
		case seen[p.Addr()]:
			return vmnetd.Errorf(vmnetd.ErrInvalid, "IP %s is asked for twice", p.Addr()).WithNext("name it once")
		}
		seen[p.Addr()] = true
		if c.f.Netns == nil {
			p = whole(p.Addr())
		}
		c.ips = append(c.ips, p)
	}
	return nil
}

// chooseIPs takes the addresses asked for, else those that the grant names.
func (c *choice) chooseIPs() error {
	g := c.grant.ips
	for _, p := range c.ips {
		if (len(g.Own) > 0 || len(g.Within) > 0) && !g.holds(p.Addr()) {
			return c.notGiven("IP %s: allowed is %s (%s)", p.Addr(), listOr(g.texts(), "none"), c.grant.by["ips"]).
				WithNext("ask for one of these with --ip, or for none")
		}
	}
	c.d.IPs = c.ips
	for _, a := range g.Own {
		if len(c.ips) == 0 {
			c.d.IPs = append(c.d.IPs, whole(a))
		}
	}
	return nil
}

// holds says whether an address may be asked for.
func (i IPs) holds(a netip.Addr) bool {
	return slices.Contains(i.Own, a) || slices.ContainsFunc(i.Within, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (i IPs) texts() []string {
	var all []string
	for _, a := range i.Own {
		all = append(all, a.String())
	}
	for _, p := range i.Within {
		all = append(all, p.String())
	}
	return all
}

// learns says whether addresses of a NIC in a mode can be learned: not where the
// router has to be told first, nor where nothing of the host's hears the guest.
func (c *choice) learns(info vmnetd.ModeInfo) bool {
	return c.grant.ips.Learn && !info.Routed && c.hears(info)
}

// lacksIPs: what is not addressed to an address on the device is not delivered
// (drivers/net/ipvlan/ipvlan_core.c, ipvlan_addr_lookup). In a namespace its own
// stack puts them there, so that only the router must know them beforehand.
func (c *choice) lacksIPs(s spot) []unfit {
	info := s.info
	if !info.NeedsIPs || len(c.d.IPs) > 0 || c.learns(info) || c.f.Netns != nil && !info.Routed {
		return nil
	}
	if info.Routed {
		return []unfit{{
			why:     fmt.Sprintf("mode %s delivers only to addresses that are known beforehand, and none of %s is", info.Mode, c.nic()),
			fix:     "give its addresses with --ip",
			request: true,
		}}
	}
	return []unfit{{
		why:     fmt.Sprintf("mode %s delivers only to known addresses, none of %s is known, and they are not learned", info.Mode, c.nic()),
		fix:     "give its addresses with --ip, or write  ips: learn  in the network",
		request: true,
	}}
}

// held: two guests, or a guest and this host, that answer for one address.
func (c *choice) held(s spot) []unfit {
	var no []unfit
	for _, p := range c.d.IPs {
		a := p.Addr()
		if slices.ContainsFunc(s.on.Hosts, func(h netip.Prefix) bool { return h.Addr() == a }) {
			no = append(no, unfit{why: fmt.Sprintf("IP %s is this host's own on %s", a, device(s.label, s.on)), fix: "ask for another one with --ip"})
		}
		for _, h := range c.f.Held[a] {
			if h.Owner != c.nic() && !h.Claimed && (h.Network == c.network.Name || h.Uplink == s.name && h.VLAN == c.network.VLAN) {
				no = append(no, unfit{why: fmt.Sprintf("IP %s is held by %s", a, h.Owner), fix: "ask for another one with --ip"})
				break
			}
		}
	}
	return no
}

// ipLine says where the addresses come from, "" where there are none.
func (c *choice) ipLine() (value, from string) {
	parts := prefixTexts(c.d.IPs)
	if len(parts) > 0 && len(c.ips) > 0 {
		parts[len(parts)-1] += " (asked for)"
	}
	if c.d.Learn {
		learned := fmt.Sprintf("learned, at most %d", c.d.MaxIPs)
		if len(c.d.Within) > 0 {
			learned += " within " + joinPrefixes(c.d.Within)
		}
		parts = append(parts, learned)
	}
	if by, given := c.grant.by["ips"]; given && (c.d.Learn || len(c.ips) == 0) {
		from = by.String()
	}
	return strings.Join(parts, ", "), from
}

func joinPrefixes(all []netip.Prefix) string { return strings.Join(prefixTexts(all), ", ") }

// prefixTexts writes whole addresses without their length.
func prefixTexts(all []netip.Prefix) []string {
	var parts []string
	for _, p := range all {
		if p.IsSingleIP() {
			parts = append(parts, p.Addr().String())
			continue
		}
		parts = append(parts, p.String())
	}
	return parts
}
