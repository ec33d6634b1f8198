package policy

import (
	"net/netip"

	"github.com/vmnetd/vmnetd"
)

const seed = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

func at(file string, line int) Pos { return Pos{File: file, Line: line, Col: 5} }

// exampleSet is a configuration of the size that operators have.
func exampleSet() *Set {
	return &Set{
		Uplinks:  []string{"wan", "lan9", "eno5"},
		Defaults: Grant{Queues: Queues{Given: true, Auto: true}, QueuesAt: at("vmnetd.yaml", 9)},
		Networks: []Network{
			{Name: "lan", Uplinks: []string{"wan", "lan9"}, At: at("networks.yaml", 2), Grant: Grant{
				Modes: []vmnetd.Mode{vmnetd.Bridge, vmnetd.Private}, ModesAt: at("networks.yaml", 2)}},
			{Name: "storage", Uplinks: []string{"eno5"}, At: at("networks.yaml", 3), Grant: Grant{
				Modes: []vmnetd.Mode{vmnetd.VEPA, vmnetd.Passthru}, ModesAt: at("networks.yaml", 3),
				MTU: 9000, MTUAt: at("networks.yaml", 3)}},
			{Name: "fw", Uplinks: []string{"lan9"}, At: at("networks.yaml", 4)},
			{Name: "far", Uplinks: []string{"atlantis"}, At: at("networks.yaml", 5)},
		},
		Labels: map[string]map[string]string{"101": {"tenant": "t1"}},
		Rules: []Rule{
			{VM: []string{"quarantine-*"}, Deny: "INC-4711", Text: `vm: "quarantine-*"`, At: at("rules.yaml", 2)},
			{VM: []string{"db-*", "dwh-*"}, Networks: []string{"lan"}, Text: `vm: ["db-*", "dwh-*"]`, At: at("rules.yaml", 3), Grant: Grant{
				Modes: []vmnetd.Mode{vmnetd.Private}, ModesAt: at("rules.yaml", 4),
				Queues: Queues{Given: true, N: 4}, QueuesAt: at("rules.yaml", 5),
				MACs: []string{"52:54:00:*"}, MACsAt: at("rules.yaml", 6)}},
			{VM: []string{"fw-?"}, Networks: []string{"fw"}, Text: `vm: "fw-?"`, At: at("rules.yaml", 7), Grant: Grant{
				Modes: []vmnetd.Mode{vmnetd.Passthru}, ModesAt: at("rules.yaml", 7)}},
			{VM: []string{"fw-?"}, Networks: []string{"lan"}, Deny: "firewalls stay outside", Text: `vm: "fw-?"`, At: at("rules.yaml", 8)},
			{Label: map[string]string{"tenant": "t1"}, Networks: []string{"storage"}, Text: `label: {tenant: t1}`, At: at("rules.yaml", 9)},
			{UUID: []string{seed}, Networks: []string{"storage"}, Text: "uuid: " + seed, At: at("rules.yaml", 10)},
			{NIC: []string{"mgmt*"}, Deny: "no management NICs", Networks: []string{"lan"}, Text: `nic: "mgmt*"`, At: at("rules.yaml", 11)},
			{VM: []string{"*"}, Networks: []string{"lan", "far"}, Text: `vm: "*"`, At: at("rules.yaml", 12)},
		},
	}
}

// exampleFacts is a host on which everything fits.
func exampleFacts() Facts {
	return Facts{
		Uplinks: map[string]Uplink{
			"wan": {Present: true, Ifname: "wan", Carrier: true, Up: true, MTU: 1500, MAC: "3c:ec:ef:00:00:01", Kind: "bond", BondMode: "active-backup",
				Hosts: []netip.Prefix{netip.MustParsePrefix("192.0.2.17/24")}},
			"lan9": {Present: true, Ifname: "enp9s0", Carrier: true, Up: true, MTU: 1500, MAC: "3c:ec:ef:00:00:02"},
			"eno5": {Present: true, Ifname: "eno5", Carrier: true, Up: true, MTU: 9000, MAC: "3c:ec:ef:00:00:03"},
		},
		VM:      VM{VCPUs: 4, Where: "qmp, running", Running: true},
		VHost:   true,
		MACSeed: seed,
	}
}

// with changes one uplink of the facts.
func (f Facts) with(name string, change func(*Uplink)) Facts {
	uplinks := map[string]Uplink{}
	for n, u := range f.Uplinks {
		uplinks[n] = u
	}
	u := uplinks[name]
	change(&u)
	uplinks[name] = u
	f.Uplinks = uplinks
	return f
}

func (f Facts) without(names ...string) Facts {
	for _, n := range names {
		f = f.with(n, func(u *Uplink) { *u = Uplink{} })
	}
	return f
}

func tapOf(owner string, mode vmnetd.Mode, mac string) User {
	vm, id, _ := vmnetd.SplitFullName(owner)
	return User{Ifname: vmnetd.Ifname(vm, id), Kind: "macvtap", Family: vmnetd.FamilyMacvlan, Mode: mode, MAC: mac, Owner: owner}
}

func derived(id string) string { return vmnetd.DeriveMAC(seed, id).String() }
