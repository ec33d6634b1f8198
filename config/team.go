package config

import (
	"github.com/vmnetd/vmnetd/teaming"
)

type rawTeam struct {
	spot
	runner      rawRunner
	linkWatch   got[[]rawLinkWatch]
	notifyPeers rawBurst
	mcastRejoin rawBurst
	hwaddr      got[string]
	ports       got[[]rawTeamPort]
}

type rawRunner struct {
	spot
	name            got[string]
	hwaddrPolicy    got[string]
	txHash          got[[]got[string]]
	txBalancer      rawTxBalancer
	active          got[bool]
	fastRate        got[bool]
	sysPrio         got[int]
	minPorts        got[int]
	aggSelectPolicy got[string]
}

type rawTxBalancer struct {
	spot
	name     got[string]
	interval got[int]
}

type rawBurst struct {
	spot
	count    got[int]
	interval got[int]
}

type rawLinkWatch struct {
	spot
	name             got[string]
	delayUp          got[int]
	delayDown        got[int]
	interval         got[int]
	initWait         got[int]
	missedMax        got[int]
	sourceHost       got[string]
	targetHost       got[string]
	validateActive   got[bool]
	validateInactive got[bool]
	sendAlways       got[bool]
	vlanID           got[int]
}

type rawTeamPort struct {
	port
	prio      got[int]
	sticky    got[bool]
	queueID   got[int]
	lacpPrio  got[int]
	lacpKey   got[int]
	linkWatch got[[]rawLinkWatch]
}

func textKey[T any](name string, field func(*T) *got[string]) row[T] {
	return key(name, field, codec[got[string]](plainText))
}

func numberKey[T any](name string, field func(*T) *got[int]) row[T] {
	return key(name, field, codec[got[int]](wholeNumber))
}

func truthKey[T any](name string, field func(*T) *got[bool]) row[T] {
	return key(name, field, codec[got[bool]](yesOrNo))
}

// teamKeys are those of teamd.conf(5), with ports and link_watch as lists.
var teamKeys = object[rawTeam]{what: "team", rows: []row[rawTeam]{
	key("runner", func(r *rawTeam) *rawRunner { return &r.runner }, codec[rawRunner](runnerKeys)),
	key("link_watch", func(r *rawTeam) *got[[]rawLinkWatch] { return &r.linkWatch }, codec[got[[]rawLinkWatch]](linkWatches)),
	key("ports", func(r *rawTeam) *got[[]rawTeamPort] { return &r.ports }, codec[got[[]rawTeamPort]](listOf[rawTeamPort]{
		item: teamPortKeys, what: "a list of ports",
	})),
	key("notify_peers", func(r *rawTeam) *rawBurst { return &r.notifyPeers }, codec[rawBurst](burstKeys("notify_peers"))),
	key("mcast_rejoin", func(r *rawTeam) *rawBurst { return &r.mcastRejoin }, codec[rawBurst](burstKeys("mcast_rejoin"))),
	textKey("hwaddr", func(r *rawTeam) *got[string] { return &r.hwaddr }),
}}

var runnerKeys = object[rawRunner]{what: "runner", rows: []row[rawRunner]{
	textKey("name", func(r *rawRunner) *got[string] { return &r.name }),
	textKey("hwaddr_policy", func(r *rawRunner) *got[string] { return &r.hwaddrPolicy }),
	key("tx_hash", func(r *rawRunner) *got[[]got[string]] { return &r.txHash }, codec[got[[]got[string]]](listOf[got[string]]{
		item: plainText, what: "a list of fragments",
	})),
	key("tx_balancer", func(r *rawRunner) *rawTxBalancer { return &r.txBalancer }, codec[rawTxBalancer](object[rawTxBalancer]{
		what: "tx_balancer", rows: []row[rawTxBalancer]{
			textKey("name", func(t *rawTxBalancer) *got[string] { return &t.name }),
			numberKey("balancing_interval", func(t *rawTxBalancer) *got[int] { return &t.interval }),
		},
	})),
	truthKey("active", func(r *rawRunner) *got[bool] { return &r.active }),
	truthKey("fast_rate", func(r *rawRunner) *got[bool] { return &r.fastRate }),
	numberKey("sys_prio", func(r *rawRunner) *got[int] { return &r.sysPrio }),
	numberKey("min_ports", func(r *rawRunner) *got[int] { return &r.minPorts }),
	textKey("agg_select_policy", func(r *rawRunner) *got[string] { return &r.aggSelectPolicy }),
}}

func burstKeys(what string) object[rawBurst] {
	return object[rawBurst]{what: what, rows: []row[rawBurst]{
		numberKey("count", func(r *rawBurst) *got[int] { return &r.count }),
		numberKey("interval", func(r *rawBurst) *got[int] { return &r.interval }),
	}}
}

var linkWatches = listOf[rawLinkWatch]{what: "a link watch or a list of them", orOne: true, item: object[rawLinkWatch]{
	what: "link_watch", rows: []row[rawLinkWatch]{
		textKey("name", func(w *rawLinkWatch) *got[string] { return &w.name }),
		numberKey("delay_up", func(w *rawLinkWatch) *got[int] { return &w.delayUp }),
		numberKey("delay_down", func(w *rawLinkWatch) *got[int] { return &w.delayDown }),
		numberKey("interval", func(w *rawLinkWatch) *got[int] { return &w.interval }),
		numberKey("init_wait", func(w *rawLinkWatch) *got[int] { return &w.initWait }),
		numberKey("missed_max", func(w *rawLinkWatch) *got[int] { return &w.missedMax }),
		textKey("source_host", func(w *rawLinkWatch) *got[string] { return &w.sourceHost }),
		textKey("target_host", func(w *rawLinkWatch) *got[string] { return &w.targetHost }),
		truthKey("validate_active", func(w *rawLinkWatch) *got[bool] { return &w.validateActive }),
		truthKey("validate_inactive", func(w *rawLinkWatch) *got[bool] { return &w.validateInactive }),
		truthKey("send_always", func(w *rawLinkWatch) *got[bool] { return &w.sendAlways }),
		numberKey("vlanid", func(w *rawLinkWatch) *got[int] { return &w.vlanID }),
	},
}}

var teamPortKeys = named[rawTeamPort]{
	object: object[rawTeamPort]{what: "a port of a team", rows: []row[rawTeamPort]{
		key("name", func(p *rawTeamPort) *got[string] { return &p.name }, codec[got[string]](portName)),
		numberKey("prio", func(p *rawTeamPort) *got[int] { return &p.prio }),
		truthKey("sticky", func(p *rawTeamPort) *got[bool] { return &p.sticky }),
		numberKey("queue_id", func(p *rawTeamPort) *got[int] { return &p.queueID }),
		numberKey("lacp_prio", func(p *rawTeamPort) *got[int] { return &p.lacpPrio }),
		numberKey("lacp_key", func(p *rawTeamPort) *got[int] { return &p.lacpKey }),
		key("link_watch", func(p *rawTeamPort) *got[[]rawLinkWatch] { return &p.linkWatch }, codec[got[[]rawLinkWatch]](linkWatches)),
	}},
	alone: portName,
	name:  func(p *rawTeamPort) *got[string] { return &p.name },
}

func (b *builder) team(r *rawTeam, on *standing) *teaming.Config {
	c := &teaming.Config{
		Runner: r.runner.config(), LinkWatch: watchConfigs(r.linkWatch.V), HWAddr: r.hwaddr.V,
		NotifyPeers: r.notifyPeers.config(), McastRejoin: r.mcastRejoin.config(),
	}
	before := len(b.list)
	for i := range r.ports.V {
		p := &r.ports.V[i]
		b.port(&p.port, on)
		c.Ports = append(c.Ports, p.config())
	}
	if !r.mistakes && len(b.list) == before {
		addFound(b, r.spot, c.Check())
	}
	return c
}

// given is nil for what is not there.
func given[T any](g got[T]) *T {
	if !g.Given {
		return nil
	}
	return &g.V
}

func (r *rawRunner) config() teaming.Runner {
	c := teaming.Runner{
		Name: r.name.V, HWAddrPolicy: r.hwaddrPolicy.V, Active: given(r.active), FastRate: given(r.fastRate),
		SysPrio: given(r.sysPrio), MinPorts: given(r.minPorts), AggSelectPolicy: r.aggSelectPolicy.V,
	}
	if r.txHash.Given {
		c.TxHash = values(r.txHash.V)
	}
	if r.txBalancer.there() {
		c.TxBalancer = &teaming.TxBalancer{Name: r.txBalancer.name.V, BalancingInterval: given(r.txBalancer.interval)}
	}
	return c
}

func (r *rawBurst) config() *teaming.Burst {
	if !r.there() {
		return nil
	}
	return &teaming.Burst{Count: given(r.count), Interval: given(r.interval)}
}

func (p *rawTeamPort) config() teaming.Port {
	return teaming.Port{
		Name: p.name.V, Prio: given(p.prio), Sticky: given(p.sticky), QueueID: given(p.queueID),
		LACPPrio: given(p.lacpPrio), LACPKey: given(p.lacpKey), LinkWatch: watchConfigs(p.linkWatch.V),
	}
}

func watchConfigs(raws []rawLinkWatch) []teaming.LinkWatch {
	var all []teaming.LinkWatch
	for _, w := range raws {
		all = append(all, teaming.LinkWatch{
			Name: w.name.V, DelayUp: given(w.delayUp), DelayDown: given(w.delayDown),
			Interval: given(w.interval), InitWait: given(w.initWait), MissedMax: given(w.missedMax),
			SourceHost: w.sourceHost.V, TargetHost: w.targetHost.V,
			ValidateActive: given(w.validateActive), ValidateInactive: given(w.validateInactive),
			SendAlways: given(w.sendAlways), VLANID: given(w.vlanID),
		})
	}
	return all
}
