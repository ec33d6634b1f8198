package teaming

import (
	"strings"
	"testing"
)

// mistakes are more than TestEveryMistakeIsFound has: by runner, one each.
var mistakes = map[string]map[string]func(c *Config){
	ActiveBackup: {
		"runner.tx_hash: runner activebackup":          func(c *Config) { c.Runner.TxHash = []string{"eth"} },
		"runner.tx_balancer: runner activebackup":      func(c *Config) { c.Runner.TxBalancer = &TxBalancer{Name: "basic"} },
		"runner.active: runner activebackup":           func(c *Config) { c.Runner.Active = ptr(false) },
		"runner.sys_prio: runner activebackup":         func(c *Config) { c.Runner.SysPrio = ptr(1) },
		"runner.min_ports: runner activebackup":        func(c *Config) { c.Runner.MinPorts = ptr(1) },
		"runner.agg_select_policy: runner activeba":    func(c *Config) { c.Runner.AggSelectPolicy = "count" },
		"ports[1].lacp_key: lacp_key is for":           func(c *Config) { c.Ports[1].LACPKey = ptr(1) },
		"ports[1]: teamd reads nothing":                func(c *Config) { c.Ports[1].Name = "eno2.7" },
		"notify_peers.interval: interval takes 0":      func(c *Config) { c.NotifyPeers.Interval = ptr(-1) },
		"mcast_rejoin.count: count takes 0":            func(c *Config) { c.McastRejoin.Count = ptr(-1) },
		"mcast_rejoin.interval: interval takes 0":      func(c *Config) { c.McastRejoin.Interval = ptr(-1) },
		`hwaddr: "00:00:00:00:00:00" is no`:            func(c *Config) { c.HWAddr = "00:00:00:00:00:00" },
		`hwaddr: "02-00-00-00-00-09" is no`:            func(c *Config) { c.HWAddr = "02-00-00-00-00-09" },
		`hwaddr: "02:00:00:00:00:00:00:09" is no`:      func(c *Config) { c.HWAddr = "02:00:00:00:00:00:00:09" },
		"link_watch[0].delay_up: delay_up takes 0":     func(c *Config) { c.LinkWatch[0].DelayUp = ptr(-1) },
		"link_watch[0].delay_down: delay_down takes 0": func(c *Config) { c.LinkWatch[0].DelayDown = ptr(-1) },
		"ports[0].link_watch[1].name: teamd has no":    func(c *Config) { c.Ports[0].LinkWatch = []LinkWatch{{Name: "ethtool"}, {Name: "tipc"}} },
	},
	LoadBalance: {
		"runner.hwaddr_policy: runner loadbalance":                          func(c *Config) { c.Runner.HWAddrPolicy = "same_all" },
		`runner.tx_hash[1]: tx_hash is one of`:                              func(c *Config) { c.Runner.TxHash[1] = "x" },
		`runner.tx_balancer.name: name is one of basic`:                     func(c *Config) { c.Runner.TxBalancer.Name = "x" },
		"runner.tx_balancer.balancing_interval: balancing_interval takes 1": func(c *Config) { c.Runner.TxBalancer.BalancingInterval = ptr(0) },
		"ports[0].prio: prio is for":                                        func(c *Config) { c.Ports[0].Prio = ptr(0) },
		"ports[0].sticky: sticky is for":                                    func(c *Config) { c.Ports[0].Sticky = ptr(false) },
	},
	LACP: {
		"runner.sys_prio: sys_prio takes 0 to 65535":            func(c *Config) { c.Runner.SysPrio = ptr(65536) },
		"runner.min_ports: min_ports takes 1 to 255":            func(c *Config) { c.Runner.MinPorts = ptr(0) },
		`runner.agg_select_policy: agg_select_policy is one of`: func(c *Config) { c.Runner.AggSelectPolicy = "x" },
		"ports[0].lacp_prio: lacp_prio takes 0 to 65535":        func(c *Config) { c.Ports[0].LACPPrio = ptr(65536) },
		"ports[0].lacp_key: lacp_key takes 0 to 65535":          func(c *Config) { c.Ports[0].LACPKey = ptr(-1) },
		"ports[0].prio: prio is for ports of runner a":          func(c *Config) { c.Ports[0].Prio = ptr(1) },
	},
}

// pings are the mistakes of link watches that ask somebody.
var pings = map[string]LinkWatch{
	"link_watch[0].interval: interval takes 0":     {Name: "arp_ping", TargetHost: "192.0.2.1", Interval: ptr(-1)},
	"link_watch[0].init_wait: init_wait takes 0":   {Name: "arp_ping", TargetHost: "192.0.2.1", InitWait: ptr(-1)},
	"link_watch[0].missed_max: missed_max takes 0": {Name: "nsna_ping", TargetHost: "fe80::1", MissedMax: ptr(-1)},
	"link_watch[0].vlanid: vlanid takes 1 to 4094": {Name: "arp_ping", TargetHost: "192.0.2.1", VLANID: ptr(4095)},
	`link_watch[0].source_host: "::1" is no IPv4`:  {Name: "arp_ping", TargetHost: "192.0.2.1", SourceHost: "::1"},
	`link_watch[0].target_host: "192.0.2.1" is`:    {Name: "nsna_ping", TargetHost: "192.0.2.1"},
	"link_watch[0]: nsna_ping has nobody":          {Name: "nsna_ping"},
	"link_watch[0].source_host: link watch nsna":   {Name: "nsna_ping", TargetHost: "fe80::1", SourceHost: "192.0.2.1"},
	"link_watch[0].validate_active: link watch":    {Name: "ethtool", ValidateActive: ptr(true)},
	"link_watch[0].validate_inactive: link watch":  {Name: "ethtool", ValidateInactive: ptr(true)},
	"link_watch[0].send_always: link watch":        {Name: "ethtool", SendAlways: ptr(true)},
	"link_watch[0].delay_up: link watch arp_ping":  {Name: "arp_ping", TargetHost: "192.0.2.1", DelayUp: ptr(1)},
}

func found(t *testing.T, c Config, want string) {
	t.Helper()
	problems := c.Check()
	if len(problems) != 1 || !strings.HasPrefix(problems[0].Key+": "+problems[0].Text, want) {
		t.Errorf("%s: want %q, got %+v", c.Runner.Name, want, problems)
	}
}

func TestEveryMistakeOfARunnerAndItsPortsIsFound(t *testing.T) {
	for runner, changes := range mistakes {
		for want, change := range changes {
			c := whole(runner, "eno1", "eno2")
			change(&c)
			found(t, c, want)
		}
	}
	for want, watch := range pings {
		c := whole(RoundRobin)
		c.LinkWatch = []LinkWatch{watch}
		found(t, c, want)
	}
}

func TestWhatIsRightIsNoMistake(t *testing.T) {
	// Of a port whose name has a dot only what is written for it is lost.
	c := Config{Runner: Runner{Name: ActiveBackup}, HWAddr: "02:00:00:00:00:AA", Ports: []Port{{Name: "eno1.7"}}}
	if problems := c.Check(); len(problems) > 0 {
		t.Errorf("%+v", problems)
	}
	// LACP goes by prio and sticky with one policy (teamd.conf(5)).
	c = whole(LACP, "eno1")
	c.Runner.AggSelectPolicy, c.Ports[0].Prio, c.Ports[0].Sticky = "port_config", ptr(1), ptr(true)
	if problems := c.Check(); len(problems) > 0 {
		t.Errorf("%+v", problems)
	}
}
