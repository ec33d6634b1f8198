package teaming

// Config is a team as teamd.conf(5) has it; ports are in order. Pointers tell
// "not given" from zero. Its JSON is vmnetd's own; File gives teamd's.
type Config struct {
	Runner      Runner      `json:"runner"`
	LinkWatch   []LinkWatch `json:"link_watch,omitempty"` // of all ports that have none of their own
	NotifyPeers *Burst      `json:"notify_peers,omitempty"`
	McastRejoin *Burst      `json:"mcast_rejoin,omitempty"`
	HWAddr      string      `json:"hwaddr,omitempty"` // aa:bb:cc:dd:ee:ff, "": the first port's
	Ports       []Port      `json:"ports"`
}

// Runner is the "runner" of teamd.conf(5).
type Runner struct {
	Name            string      `json:"name"`                        // broadcast, roundrobin, random, activebackup, loadbalance, lacp
	HWAddrPolicy    string      `json:"hwaddr_policy,omitempty"`     // activebackup: same_all, by_active, only_active
	TxHash          []string    `json:"tx_hash,omitempty"`           // loadbalance, lacp
	TxBalancer      *TxBalancer `json:"tx_balancer,omitempty"`       // loadbalance, lacp
	Active          *bool       `json:"active,omitempty"`            // lacp
	FastRate        *bool       `json:"fast_rate,omitempty"`         // lacp
	SysPrio         *int        `json:"sys_prio,omitempty"`          // lacp
	MinPorts        *int        `json:"min_ports,omitempty"`         // lacp
	AggSelectPolicy string      `json:"agg_select_policy,omitempty"` // lacp
}

// TxBalancer is "runner.tx_balancer".
type TxBalancer struct {
	Name              string `json:"name"`                         // basic
	BalancingInterval *int   `json:"balancing_interval,omitempty"` // tenths of a second
}

// Burst is "notify_peers" or "mcast_rejoin".
type Burst struct {
	Count    *int `json:"count,omitempty"`
	Interval *int `json:"interval,omitempty"` // ms
}

// LinkWatch is one "link_watch". Times are in ms.
type LinkWatch struct {
	Name             string `json:"name"`                        // ethtool, arp_ping, nsna_ping
	DelayUp          *int   `json:"delay_up,omitempty"`          // ethtool
	DelayDown        *int   `json:"delay_down,omitempty"`        // ethtool
	Interval         *int   `json:"interval,omitempty"`          // arp_ping, nsna_ping
	InitWait         *int   `json:"init_wait,omitempty"`         //
	MissedMax        *int   `json:"missed_max,omitempty"`        //
	SourceHost       string `json:"source_host,omitempty"`       // arp_ping
	TargetHost       string `json:"target_host,omitempty"`       //
	ValidateActive   *bool  `json:"validate_active,omitempty"`   // arp_ping
	ValidateInactive *bool  `json:"validate_inactive,omitempty"` //
	SendAlways       *bool  `json:"send_always,omitempty"`       //
	VLANID           *int   `json:"vlanid,omitempty"`            // arp_ping
}

// Port is one of "ports".
type Port struct {
	Name      string      `json:"name"` // of an uplink or a device
	Prio      *int        `json:"prio,omitempty"`
	Sticky    *bool       `json:"sticky,omitempty"`
	QueueID   *int        `json:"queue_id,omitempty"`
	LACPPrio  *int        `json:"lacp_prio,omitempty"`
	LACPKey   *int        `json:"lacp_key,omitempty"`
	LinkWatch []LinkWatch `json:"link_watch,omitempty"`
}
