package bonding

import (
	"bufio"
	"net"
	"strings"

	"github.com/vishvananda/netlink/nl"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Attributes that vishvananda/netlink does not name (uapi/linux/if_link.h).
const (
	portState        = 1 // IFLA_BOND_SLAVE_STATE
	portMII          = 2 // IFLA_BOND_SLAVE_MII_STATUS
	portFailures     = 3 // IFLA_BOND_SLAVE_LINK_FAILURE_COUNT
	portPermMAC      = 4 // IFLA_BOND_SLAVE_PERM_HWADDR
	portAggregator   = 6 // IFLA_BOND_SLAVE_AD_AGGREGATOR_ID
	portActorState   = 7 // IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE
	portPartnerState = 8 // IFLA_BOND_SLAVE_AD_PARTNER_OPER_PORT_STATE
	adInfo           = nl.IFLA_BOND_AD_INFO
	adAggregator     = 1 // IFLA_BOND_AD_INFO_AGGREGATOR
	adPorts          = 2 // IFLA_BOND_AD_INFO_NUM_PORTS
	adActorKey       = 3 // IFLA_BOND_AD_INFO_ACTOR_KEY
	adPartnerKey     = 4 // IFLA_BOND_AD_INFO_PARTNER_KEY
	adPartnerMAC     = 5 // IFLA_BOND_AD_INFO_PARTNER_MAC
)

var (
	portStates = []string{"active", "backup"}                       // BOND_STATE_…
	miiStates  = []string{"up", "going down", "down", "going back"} // BOND_LINK_…, drivers/net/bonding/bond_main.c, bond_slave_link_status
)

// Active is the ifindex of a bond's active port, 0 where it has none. It is on
// the way of a failover: it looks for one attribute.
func Active(bond rtnl.Link) int {
	active := 0
	rtnl.Each(bond.Data, func(attr int, v []byte) {
		if attr == nl.IFLA_BOND_ACTIVE_SLAVE {
			active = int(integer(v))
		}
	})
	return active
}

// ActiveAggregator is the id of the aggregator that an 802.3ad bond sends on,
// 0 for none; AggregatorOf that of a port.
func ActiveAggregator(bond rtnl.Link) int {
	if a := aggregator(bond); a != nil {
		return a.ID
	}
	return 0
}

// AggregatorOf is the aggregator that a port of an 802.3ad bond is in.
func AggregatorOf(port rtnl.Link) int {
	id := 0
	rtnl.Each(port.PortData, func(attr int, v []byte) {
		if attr == portAggregator {
			id = int(integer(v))
		}
	})
	return id
}

// Status is a bond and its ports as the kernel has them. proc is the content of
// /proc/net/bonding/NAME, where alone the kernel tells of churn (802.1AX
// 6.4.17), and may be "". name finds ports by ifindex.
func Status(bond rtnl.Link, ports []rtnl.Link, proc string, name func(int) string) vmnetd.BondState {
	s := vmnetd.BondState{Options: Read(bond, name), Ports: []vmnetd.BondPort{}}
	s.Mode = s.Options["mode"]
	delete(s.Options, "mode")
	if active := Active(bond); active != 0 {
		s.ActivePort = name(active)
	}
	churns := churn(proc)
	if s.Mode == LACP {
		s.Aggregator = aggregator(bond)
	}
	for _, l := range ports {
		p := portStatus(l, s.Mode)
		p.ActorChurn, p.PartnerChurn = churns[l.Name].actor, churns[l.Name].partner
		s.Ports = append(s.Ports, p)
	}
	return s
}

func portStatus(l rtnl.Link, mode string) vmnetd.BondPort {
	p := vmnetd.BondPort{Name: l.Name, Actor: []string{}, Partner: []string{}}
	rtnl.Each(l.PortData, func(attr int, v []byte) {
		n := int(integer(v))
		switch attr {
		case portState:
			p.State = word(portStates, n)
		case portMII:
			p.MII = word(miiStates, n)
		case portFailures:
			p.LinkFailures = n
		case portPermMAC:
			p.PermMAC = net.HardwareAddr(v).String()
		case nl.IFLA_BOND_SLAVE_QUEUE_ID:
			p.QueueID = n
		case portPrio:
			p.Prio = int(int32(n))
		case portAggregator:
			p.Aggregator = n
		case portActorState:
			p.Actor = vmnetd.LACPState(n)
		case portPartnerState:
			p.Partner = vmnetd.LACPState(n)
		}
	})
	if mode != LACP {
		p.Aggregator, p.Actor, p.Partner = 0, []string{}, []string{}
	}
	return p
}

func word(words []string, n int) string {
	if n < len(words) {
		return words[n]
	}
	return "unknown"
}

func aggregator(bond rtnl.Link) *vmnetd.Aggregator {
	var a *vmnetd.Aggregator
	rtnl.Each(bond.Data, func(attr int, v []byte) {
		if attr != adInfo {
			return
		}
		a = &vmnetd.Aggregator{}
		rtnl.Each(v, func(attr int, v []byte) {
			n := int(integer(v))
			switch attr {
			case adAggregator:
				a.ID = n
			case adPorts:
				a.Ports = n
			case adActorKey:
				a.ActorKey = n
			case adPartnerKey:
				a.PartnerKey = n
			case adPartnerMAC:
				a.PartnerMAC = net.HardwareAddr(v).String()
			}
		})
	})
	return a
}

type churns struct{ actor, partner string }

// churn reads the churn machines of the ports (drivers/net/bonding/bond_procfs.c).
func churn(proc string) map[string]churns {
	found := map[string]churns{}
	port := ""
	lines := bufio.NewScanner(strings.NewReader(proc))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		c := found[port]
		switch key {
		case "Slave Interface":
			port = value
			continue
		case "Actor Churn State":
			c.actor = value
		case "Partner Churn State":
			c.partner = value
		default:
			continue
		}
		found[port] = c
	}
	return found
}
