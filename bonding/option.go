package bonding

import (
	"slices"

	"github.com/vishvananda/netlink/nl"
)

// Modes of a bond, by the kernel's names and in its order (uapi/linux/if_bonding.h).
const (
	BalanceRR    = "balance-rr"
	ActiveBackup = "active-backup"
	BalanceXOR   = "balance-xor"
	Broadcast    = "broadcast"
	LACP         = "802.3ad"
	BalanceTLB   = "balance-tlb"
	BalanceALB   = "balance-alb"
)

var modeNames = []string{BalanceRR, ActiveBackup, BalanceXOR, Broadcast, LACP, BalanceTLB, BalanceALB}

// Modes is the names of all modes.
func Modes() []string { return slices.Clone(modeNames) }

// AllPorts says that a bond of that mode sends on all its ports.
func AllPorts(mode string) bool { return !slices.Contains(oneActive, mode) }

// oneActive are the modes that have an active port (include/net/bonding.h,
// bond_uses_primary).
var oneActive = []string{ActiveBackup, BalanceTLB, BalanceALB}

// noARP are the modes without ARP monitoring (drivers/net/bonding/bond_options.c,
// unsuppmodes of arp_interval).
var noARP = []string{LACP, BalanceTLB, BalanceALB}

// Need is what a change of an option needs.
type Need string

// Needs, the cheapest first.
const (
	Live    Need = "live"     // nothing: frames go on
	Down    Need = "down"     // the bond down while it is made
	NoPorts Need = "no-ports" // all ports taken out, and the bond down
)

// Option is one row of the table of options.
type Option struct {
	Name   string   // the kernel's
	Modes  []string // that have it
	Need   Need     // what a change of it needs (bond_options.c, BOND_OPTFLAG_…)
	Values string   // what it takes, for messages: "slow or fast", "0 to 255"
	Late   bool     // it names a port, so it is set once the ports are in

	attr  int
	codec codec
}

func except(modes []string) []string {
	return slices.DeleteFunc(slices.Clone(modeNames), func(m string) bool { return slices.Contains(modes, m) })
}

var (
	offOn     = []string{"off", "on"}
	lacpModes = []string{LACP}
)

// table is every option of a bond (uapi/linux/if_link.h, IFLA_BOND_*), in an
// order in which the kernel takes them: mode first, a monitor before what
// depends on it.
var table = []Option{
	{Name: "mode", Modes: modeNames, Need: NoPorts, attr: nl.IFLA_BOND_MODE, codec: enum(1, modeNames...)},
	{Name: "miimon", Modes: modeNames, attr: nl.IFLA_BOND_MIIMON, codec: number(4, 0, maxInt)},
	{Name: "updelay", Modes: modeNames, attr: nl.IFLA_BOND_UPDELAY, codec: number(4, 0, maxInt)},
	{Name: "downdelay", Modes: modeNames, attr: nl.IFLA_BOND_DOWNDELAY, codec: number(4, 0, maxInt)},
	{Name: "peer_notif_delay", Modes: modeNames, attr: nl.IFLA_BOND_AD_ACTOR_SYSTEM + 2, codec: number(4, 0, 300_000)},
	{Name: "use_carrier", Modes: modeNames, attr: nl.IFLA_BOND_USE_CARRIER, codec: flag()},
	{Name: "arp_interval", Modes: except(noARP), attr: nl.IFLA_BOND_ARP_INTERVAL, codec: number(4, 0, maxInt)},
	{Name: "arp_ip_target", Modes: except(noARP), attr: nl.IFLA_BOND_ARP_IP_TARGET, codec: addresses(4)},
	{Name: "ns_ip6_target", Modes: except(noARP), attr: 31, codec: addresses(16)},
	{Name: "arp_validate", Modes: except(noARP), attr: nl.IFLA_BOND_ARP_VALIDATE, codec: enum(4, "none", "active", "backup", "all", "filter", "filter_active", "filter_backup")},
	{Name: "arp_all_targets", Modes: modeNames, attr: nl.IFLA_BOND_ARP_ALL_TARGETS, codec: enum(4, "any", "all")},
	{Name: "arp_missed_max", Modes: except(noARP), attr: 30, codec: number(1, 1, 255)},
	{Name: "primary_reselect", Modes: modeNames, attr: nl.IFLA_BOND_PRIMARY_RESELECT, codec: enum(1, "always", "better", "failure")},
	{Name: "fail_over_mac", Modes: modeNames, Need: NoPorts, attr: nl.IFLA_BOND_FAIL_OVER_MAC, codec: enum(1, "none", "active", "follow")},
	{Name: "xmit_hash_policy", Modes: modeNames, attr: nl.IFLA_BOND_XMIT_HASH_POLICY, codec: enum(1, "layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")},
	{Name: "resend_igmp", Modes: modeNames, attr: nl.IFLA_BOND_RESEND_IGMP, codec: number(4, 0, 255)},
	{Name: "num_grat_arp", Modes: modeNames, attr: nl.IFLA_BOND_NUM_PEER_NOTIF, codec: number(1, 0, 255)},
	{Name: "all_slaves_active", Modes: modeNames, attr: nl.IFLA_BOND_ALL_SLAVES_ACTIVE, codec: flag()},
	{Name: "min_links", Modes: modeNames, attr: nl.IFLA_BOND_MIN_LINKS, codec: number(4, 0, maxInt)},
	{Name: "lp_interval", Modes: modeNames, attr: nl.IFLA_BOND_LP_INTERVAL, codec: number(4, 1, maxInt)},
	{Name: "packets_per_slave", Modes: []string{BalanceRR}, attr: nl.IFLA_BOND_PACKETS_PER_SLAVE, codec: number(4, 0, 65535)},
	{Name: "lacp_active", Modes: lacpModes, Need: Down, attr: 29, codec: flag()},
	{Name: "lacp_rate", Modes: lacpModes, Need: Down, attr: nl.IFLA_BOND_AD_LACP_RATE, codec: enum(1, "slow", "fast")},
	{Name: "ad_select", Modes: modeNames, Need: Down, attr: nl.IFLA_BOND_AD_SELECT, codec: enum(1, "stable", "bandwidth", "count")},
	{Name: "ad_actor_sys_prio", Modes: lacpModes, attr: nl.IFLA_BOND_AD_ACTOR_SYS_PRIO, codec: number(2, 1, 65535)},
	{Name: "ad_user_port_key", Modes: lacpModes, Need: Down, attr: nl.IFLA_BOND_AD_USER_PORT_KEY, codec: number(2, 0, 1023)},
	{Name: "ad_actor_system", Modes: lacpModes, attr: nl.IFLA_BOND_AD_ACTOR_SYSTEM, codec: macAddress{}},
	{Name: "tlb_dynamic_lb", Modes: []string{BalanceTLB, BalanceALB}, Need: Down, attr: nl.IFLA_BOND_TLB_DYNAMIC_LB, codec: flag()},
	{Name: "primary", Modes: oneActive, Late: true, attr: nl.IFLA_BOND_PRIMARY, codec: port{}},
	{Name: "active_slave", Modes: oneActive, Late: true, attr: nl.IFLA_BOND_ACTIVE_SLAVE, codec: port{}},
}

// portTable is every option of a port (IFLA_BOND_SLAVE_*).
var portTable = []Option{
	{Name: "queue_id", Modes: modeNames, attr: nl.IFLA_BOND_SLAVE_QUEUE_ID, codec: number(2, 0, 65535)},
	{Name: "prio", Modes: oneActive, attr: portPrio, codec: number(4, -maxInt-1, maxInt)},
}

const (
	maxInt   = 1<<31 - 1
	portPrio = 9 // IFLA_BOND_SLAVE_PRIO, since Linux 6.0
)

// aliases are other names that the kernel's documentation has for an option.
var aliases = map[string]string{"num_unsol_na": "num_grat_arp", "num_peer_notif": "num_grat_arp"}

// Options is every option of a bond.
func Options() []Option { return finished(table) }

// PortOptions is every option of a port.
func PortOptions() []Option { return finished(portTable) }

func finished(rows []Option) []Option {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Values = rows[i].codec.takes()
		if rows[i].Need == "" {
			rows[i].Need = Live
		}
	}
	return rows
}

func find(rows []Option, name string) (Option, bool) {
	if kernels, ok := aliases[name]; ok {
		name = kernels
	}
	i := slices.IndexFunc(rows, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return Option{}, false
	}
	o := rows[i]
	if o.Need == "" {
		o.Need = Live
	}
	return o, true
}

func (o Option) in(mode string) bool { return slices.Contains(o.Modes, mode) }
