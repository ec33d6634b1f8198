package config

import (
	"fmt"
	"net"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/policy"
)

type rawVM struct {
	spot
	vm     got[string]
	labels got[map[string]got[string]]
	nics   got[[]rawNIC]
}

type rawNIC struct {
	spot
	id      got[string]
	network got[string]
	uplink  got[string]
	mode    got[vmnetd.Mode]
	mac     got[net.HardwareAddr]
	queues  got[policy.Queues]
	bus     got[string]
	addr    got[string]
	ips     got[[]got[string]]
}

var nicKeys = object[rawNIC]{what: "a NIC", rows: slices.Concat([]row[rawNIC]{
	key("id", func(n *rawNIC) *got[string] { return &n.id }, codec[got[string]](nicID)),
	key("network", func(n *rawNIC) *got[string] { return &n.network }, codec[got[string]](reference)),
	key("uplink", func(n *rawNIC) *got[string] { return &n.uplink }, codec[got[string]](reference)),
	key("mode", func(n *rawNIC) *got[vmnetd.Mode] { return &n.mode }, codec[got[vmnetd.Mode]](mode)),
	key("mac", func(n *rawNIC) *got[net.HardwareAddr] { return &n.mac }, codec[got[net.HardwareAddr]](macAddress)),
	key("queues", func(n *rawNIC) *got[policy.Queues] { return &n.queues }, codec[got[policy.Queues]](queues)),
	key("bus", func(n *rawNIC) *got[string] { return &n.bus }, codec[got[string]](busName)),
	key("addr", func(n *rawNIC) *got[string] { return &n.addr }, codec[got[string]](slot)),
	key("ips", func(n *rawNIC) *got[[]got[string]] { return &n.ips }, codec[got[[]got[string]]](nicIPs)),
}, later[rawNIC]("link", "filter", "bandwidth", "vlan", "extra"))}

var vmKeys = object[rawVM]{what: "a VM", rows: slices.Concat([]row[rawVM]{
	key("vm", func(v *rawVM) *got[string] { return &v.vm }, codec[got[string]](vmName)),
	key("labels", func(v *rawVM) *got[map[string]got[string]] { return &v.labels }, codec[got[map[string]got[string]]](textMap{what: "a mapping of labels"})),
	key("nics", func(v *rawVM) *got[[]rawNIC] { return &v.nics }, codec[got[[]rawNIC]](listOf[rawNIC]{
		item: nicKeys, what: "a list of NICs", empty: true,
	})),
}, later[rawVM]("owner"))}

func (b *builder) addVMs(docs []*document) {
	seen := declared{}
	for _, d := range docs {
		for i := range d.vms.V {
			b.vm(&d.vms.V[i], seen)
		}
	}
}

func (b *builder) vm(v *rawVM, seen declared) {
	if v.unusable {
		return
	}
	if !v.vm.Given {
		b.missing(v.vm.At, v.spot, "this entry has no vm", "add  vm: NAME")
	} else if !seen.add(b.problems, "VM", v.vm.V, v.vm.At) {
		return
	}
	want := agent.WantedVM{Name: v.vm.V, At: v.at.pos(), NICs: b.nics(v)}
	if !v.vm.Given {
		return
	}
	b.cfg.VMs = append(b.cfg.VMs, want)
	if labels := plainLabels(v.labels.V); labels != nil {
		b.cfg.Policy.Labels[v.vm.V] = labels
	}
}

func (b *builder) nics(v *rawVM) []vmnetd.Request {
	ids := declared{}
	for i := range v.nics.V {
		if id := v.nics.V[i].id; id.Given {
			ids.add(b.problems, "NIC", id.V, id.At)
		}
	}
	var reqs []vmnetd.Request
	for i := range v.nics.V {
		n := &v.nics.V[i]
		if !n.id.Given && n.id.At.file == nil {
			n.id.V = freeID(ids)
			ids[n.id.V] = n.at
		}
		reqs = append(reqs, b.nic(v, n))
	}
	return reqs
}

// freeID is the first of net0, net1, … that no NIC of the VM has.
func freeID(ids declared) string {
	for i := 0; ; i++ {
		if id := fmt.Sprintf("net%d", i); !ids.has(id) {
			return id
		}
	}
}

func (b *builder) nic(v *rawVM, n *rawNIC) vmnetd.Request {
	if n.network.Given && !b.networks.has(n.network.V) {
		b.unknown(n.network.At, "network", n.network.V, b.networks)
	}
	if n.uplink.Given && !b.uplinks.has(n.uplink.V) {
		b.unknown(n.uplink.At, "uplink", n.uplink.V, b.uplinks)
	}
	if n.queues.V.Auto {
		b.add(n.queues.At, "a NIC has queues by number").do("leave it out: the rule, the network or the defaults decide, and auto is theirs")
	}
	if n.addr.Given && !n.bus.Given && n.bus.At.file == nil {
		b.add(n.addr.At, "addr without bus").do("add the bus that the slot is on, such as  bus: pci.0")
	}
	req := vmnetd.Request{
		VM: v.vm.V, ID: n.id.V, Network: n.network.V, Uplink: n.uplink.V, Mode: n.mode.V,
		Queues: n.queues.V.N, Bus: n.bus.V, Addr: n.addr.V,
	}
	twice(b.problems, n.ips.V)
	if n.ips.Given {
		req.IPs = values(n.ips.V)
	}
	if n.mac.Given {
		req.MAC = n.mac.V.String()
		b.sameMAC(req, n.mac.At)
	}
	return req
}

// sameMAC warns of two NICs that could not both be on their uplink. It is no
// mistake: the VMs may be meant to take turns.
func (b *builder) sameMAC(req vmnetd.Request, at place) {
	key := req.MAC + " " + req.Network + " " + req.Uplink
	if first, there := b.macs[key]; there {
		b.warn(at, "MAC %s is that of the NIC at %s too: the two cannot be on one uplink at the same time", req.MAC, first.pos())
		return
	}
	b.macs[key] = at
}
