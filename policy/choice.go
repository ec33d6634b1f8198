package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// choice is one request on its way to a Decision.
type choice struct {
	set        *Set
	req        vmnetd.Request // with mode and MAC in their one spelling
	f          Facts
	who        subject
	verdicts   []verdict
	network    *Network // nil until chosen
	rule       *Rule    // the rule that decides, nil: none does
	grant      grant
	trials     []trial        // every uplink of the network, in the network's order
	ips        []netip.Prefix // asked for
	routes     []Route        // asked for
	mac        string         // derived or asked for: the NIC's in a mode in which it has one of its own
	foreignMAC bool           // the MAC asked for is none that the grant gives: it can only be the uplink's own
	up         Uplink         // the chosen uplink
	on         Uplink         // what the NIC stands on: that uplink, or a VLAN of it
	d          Decision
	err        error
}

func (s *Set) choose(req vmnetd.Request, f Facts) *choice {
	c := &choice{set: s, req: req, f: f}
	if path, is := strings.CutPrefix(req.Via, viaNetns); is && f.Unknown && f.Netns == nil {
		c.f.Netns = &Netns{Path: path}
	}
	steps := []func() error{c.checkRequest, c.chooseNetwork, c.checkAsked, c.choosePlace}
	for _, step := range steps {
		if c.err = step(); c.err != nil {
			break
		}
	}
	c.finish()
	return c
}

// checkRequest refuses what cannot be meant, and names the NIC.
func (c *choice) checkRequest() error {
	c.d.ID = c.req.ID
	if err := vmnetd.CheckVMName(c.req.VM); err != nil {
		return err
	}
	if c.req.ID == "" {
		c.d.ID = c.nextID()
	}
	if err := vmnetd.CheckID(c.d.ID); err != nil {
		return err
	}
	if c.req.Mode != "" {
		mode, err := vmnetd.ParseMode(string(c.req.Mode))
		if err != nil {
			return err
		}
		c.req.Mode = mode
	}
	if c.req.MAC != "" {
		mac, err := vmnetd.ParseMAC(c.req.MAC)
		if err != nil {
			return err
		}
		c.req.MAC = mac.String()
	}
	if c.req.Queues < 0 || c.req.Queues > maxQueues {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%d queues: a device has 1 to %d", c.req.Queues, maxQueues)
	}
	for _, check := range []func() error{c.checkWay, c.parseIPs, c.parseRoutes} {
		if err := check(); err != nil {
			return err
		}
	}
	c.who = subject{vm: c.req.VM, uuid: c.f.VM.UUID, nic: c.d.ID, labels: merged(c.f.VM.Labels, c.set.Labels[c.req.VM])}
	c.verdicts = c.set.verdicts(c.who)
	return c.checkUplinkExists()
}

// merged is a VM's own labels with the operator's over them: what vms: says, no
// metadata can change.
func merged(own, operators map[string]string) map[string]string {
	if len(own) == 0 {
		return operators
	}
	all := maps.Clone(own)
	maps.Copy(all, operators)
	return all
}

// nextID is the id that the caller has chosen, or the first free netN.
func (c *choice) nextID() string {
	if id := c.f.VM.NIC; id != "" && !slices.Contains(c.f.Taken, id) {
		return id
	}
	for n := 0; ; n++ {
		if id := fmt.Sprintf("net%d", n); !slices.Contains(c.f.Taken, id) {
			return id
		}
	}
}

// checkUplinkExists refuses an uplink that neither this host declares nor any
// network names; networks are shared by hosts that have different uplinks.
func (c *choice) checkUplinkExists() error {
	u := c.req.Uplink
	if u == "" || slices.Contains(c.set.Uplinks, u) {
		return nil
	}
	if slices.ContainsFunc(c.set.Networks, func(n Network) bool { return slices.Contains(n.Uplinks, u) }) {
		return nil
	}
	next := "no uplink is configured: add one to uplinks:"
	if len(c.set.Uplinks) > 0 {
		next = "uplinks are " + strings.Join(c.set.Uplinks, ", ")
	}
	return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no uplink %q", u).WithNext(next)
}

func (c *choice) nic() string { return vmnetd.FullName(c.req.VM, c.d.ID) }

// finish writes down what was found, also when it ended in an error.
func (c *choice) finish() {
	if c.network != nil {
		c.d.Network, c.d.NetworkAt, c.d.VLAN = c.network.Name, c.network.At, c.network.VLAN
	}
	if c.rule != nil {
		c.d.RuleAt, c.d.RuleText = c.rule.At, c.rule.Text
	}
	c.d.Not = c.alternatives()
	if c.err != nil {
		return
	}
	c.d.VHost = c.f.VHost && c.f.Netns == nil
	c.d.Reasons = c.reasons()
	c.d.Mind = c.mind()
}
