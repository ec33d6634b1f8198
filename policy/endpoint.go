package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// viaNetns begins the way to a network namespace: netns:PATH.
const viaNetns = "netns:"

// checkWay refuses what means something for VMs alone in a request for a
// namespace, and the other way round.
func (c *choice) checkWay() error {
	r := c.req
	type option struct {
		flag  string
		given bool
	}
	ofVMs := []option{{"--queues", r.Queues > 0}, {"--bus", r.Bus != ""}, {"--addr", r.Addr != ""}, {"--handover", r.Handover != ""},
		{"--incoming", r.Incoming}, {"--live", r.Live}, {"--config", r.Config}}
	ofNamespaces := []option{{"--name", r.Name != ""}, {"--route", len(r.Routes) > 0}}
	wrong, of := ofNamespaces, "a network namespace (--via netns:PATH), and this is a VM"
	if c.f.Netns != nil {
		wrong, of = ofVMs, "a VM, and "+c.f.Netns.Path+" is a network namespace"
	}
	for _, o := range wrong {
		if o.given {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "%s is for %s", o.flag, of).WithNext("leave " + o.flag + " away")
		}
	}
	return nil
}

// Words of a route, as `ip route` has them.
const (
	defaultRoute = "default"
	viaWord      = "via"
)

func (c *choice) parseRoutes() error {
	for _, text := range c.req.Routes {
		r, err := parseRoute(text)
		if err != nil {
			return err
		}
		c.routes = append(c.routes, r)
	}
	for _, r := range c.routes {
		if r.Via.IsValid() && !c.onLink(r.Via) {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "route %s: %s is in no prefix of the addresses asked for", vmnetd.RouteText(r.To, r.Via), r.Via).
				WithNext("give the address with its length, such as --ip 192.0.2.5/24, or a route to the gateway itself")
		}
	}
	return nil
}

// onLink says whether a gateway is reached without another one (net/ipv4/fib_semantics.c,
// fib_check_nh: ENETUNREACH otherwise).
func (c *choice) onLink(gateway netip.Addr) bool {
	direct := func(r Route) bool { return !r.Via.IsValid() && r.To.Contains(gateway) }
	return gateway.Is6() && gateway.IsLinkLocalUnicast() || slices.ContainsFunc(c.routes, direct) ||
		slices.ContainsFunc(c.ips, func(p netip.Prefix) bool { return p.Contains(gateway) && p.Addr() != gateway })
}

func parseRoute(text string) (Route, error) {
	words := strings.Fields(text)
	var r Route
	switch {
	case len(words) == 3 && words[1] == viaWord:
		via, err := ParseAddr(words[2])
		if err != nil {
			return Route{}, err
		}
		r.Via = via
	case len(words) != 1 || words[0] == defaultRoute:
		return badRoute(text, "is not of the form PREFIX, PREFIX via ADDRESS or default via ADDRESS")
	}
	if words[0] == defaultRoute {
		r.To = netip.PrefixFrom(zeroLike(r.Via), 0)
		return r, nil
	}
	return r.to(text, words[0])
}

// to is the route to a prefix.
func (r Route) to(text, prefix string) (Route, error) {
	to, err := netip.ParsePrefix(prefix)
	switch {
	case err != nil:
		return badRoute(text, "is not to a prefix")
	case to.Masked() != to || to.Addr().IsMulticast() || to.Addr().Is4In6():
		return badRoute(text, "is to a prefix with bits beyond its length, or of groups")
	case r.Via.IsValid() && r.Via.Is4() != to.Addr().Is4():
		return badRoute(text, "mixes IPv4 and IPv6")
	}
	r.To = to
	return r, nil
}

func badRoute(text, why string) (Route, error) {
	return Route{}, vmnetd.Errorf(vmnetd.ErrInvalid, "route %q %s", text, why).
		WithNext("write it as 198.51.100.0/24, 198.51.100.0/24 via 192.0.2.1 or default via 192.0.2.1")
}

// zeroLike is the unspecified address of an address' family.
func zeroLike(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// chooseName names the device within the namespace: eth and the number of netN.
func (c *choice) chooseName() error {
	if c.f.Netns == nil {
		return nil
	}
	c.d.Routes = c.routes
	c.d.Name = c.req.Name
	if c.d.Name == "" {
		c.d.Name = c.d.ID
		if n, is := strings.CutPrefix(c.d.ID, "net"); is && n != "" && strings.Trim(n, "0123456789") == "" {
			c.d.Name = "eth" + n
		}
	}
	return checkName(c.d.Name)
}

// checkName is narrower than the kernel (net/core/dev.c, dev_valid_name), which
// expands "%d", and than /proc/sys/net, where two names stand for others.
func checkName(name string) error {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	bad := func(why string) error {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "device name %q %s", name, why).WithNext("give one such as eth0 with --name")
	}
	switch {
	case len(name) > vmnetd.MaxIfname:
		return bad(fmt.Sprintf("has %d characters, %d are possible", len(name), vmnetd.MaxIfname))
	case name == "lo" || name == "all" || name == "default":
		return bad("stands for something else")
	case strings.Trim(name, plain+"-._") != "" || !strings.Contains(plain, name[:1]):
		return bad("is not letters, digits, '-', '.' and '_', beginning with a letter or digit")
	}
	return nil
}

// hears says whether something of the host's hears what a guest in a mode sends:
// only there a filter can be kept, and addresses are learned.
func (c *choice) hears(info vmnetd.ModeInfo) bool {
	return info.Mode.Sends(info.Mode.KindIn(c.f.Netns != nil)) != ""
}

// unguarded: the only device of such an endpoint is in the namespace, whose root
// can take away whatever stands on it.
func (c *choice) unguarded(s spot) []unfit {
	n := c.f.Netns
	if n == nil || n.Trusted || c.hears(s.info) || !c.grant.filter.On() && c.grant.bandwidth == (Bandwidth{}) {
		return nil
	}
	return []unfit{{
		why: fmt.Sprintf("the %s would be in the hands of %s's root, who could take filter and bandwidth off it", c.kind(s.mode), n.Path),
		fix: "use a network with mode switched, or, if that root is trusted, " + toTrust(n.Path),
	}}
}

// toTrust says how a namespace is trusted: by its path, and one beneath /proc is a
// process's, which may be another's tomorrow.
func toTrust(path string) string {
	if strings.HasPrefix(path, "/proc/") {
		return `give it a name, which can be trusted (ip netns attach NAME PID), attach to  --via netns:NAME  and add  hypervisors: {netns: {trusted: ["/run/netns/NAME"]}}`
	}
	return fmt.Sprintf("add  hypervisors: {netns: {trusted: [%q]}}", path)
}

// kind is the kind of device that a mode means for who asks.
func (c *choice) kind(m vmnetd.Mode) vmnetd.Kind { return m.KindIn(c.f.Netns != nil) }

// withMode names kind and mode as they are printed to people.
func (c *choice) withMode(m vmnetd.Mode) string { return fmt.Sprintf("%s %s", c.kind(m), m) }
