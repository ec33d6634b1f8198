package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

// given is what most tests look at of a Decision.
func given(d Decision) string {
	return strings.Join([]string{d.ID, d.Network, d.Uplink, string(d.Mode)}, " ")
}

func TestRulesChooseNetworkUplinkAndMode(t *testing.T) {
	noCarrier := func(u *Uplink) { u.Carrier = false }
	for name, c := range map[string]struct {
		req   vmnetd.Request
		facts Facts
		want  string
	}{
		"the first network of the first rule that matches": {req: vmnetd.Request{VM: "vm1"}, want: "net0 lan wan bridge"},
		"a glob list": {req: vmnetd.Request{VM: "dwh-9"}, want: "net0 lan wan private"},
		"a later rule where the first is about other networks": {req: vmnetd.Request{VM: "101", Network: "lan"}, want: "net0 lan wan bridge"},
		"labels come from the set":                             {req: vmnetd.Request{VM: "101"}, want: "net0 storage eno5 vepa"},
		"the UUID, whatever its case": {req: vmnetd.Request{VM: "vm1"}, want: "net0 storage eno5 vepa",
			facts: func() Facts { f := exampleFacts(); f.VM.UUID = strings.ToUpper(seed); return f }()},
		"a deny of some networks is passed over":             {req: vmnetd.Request{VM: "fw-1"}, want: "net0 fw lan9 passthru"},
		"a deny of some networks leaves the next one":        {req: vmnetd.Request{VM: "vm1", ID: "mgmt0", Network: "far"}, facts: withAtlantis(), want: "mgmt0 far atlantis bridge"},
		"without a network, what is denied is not the first": {req: vmnetd.Request{VM: "vm1", ID: "mgmt0"}, facts: withAtlantis(), want: "mgmt0 far atlantis bridge"},
		"the uplink asked for":                               {req: vmnetd.Request{VM: "vm1", Uplink: "lan9"}, want: "net0 lan lan9 bridge"},
		"the mode asked for":                                 {req: vmnetd.Request{VM: "vm1", Mode: "private"}, want: "net0 lan wan private"},
		"passthrough is passthru":                            {req: vmnetd.Request{VM: "fw-1", Mode: "passthrough"}, want: "net0 fw lan9 passthru"},
		"carrier comes before order":                         {req: vmnetd.Request{VM: "vm1"}, facts: exampleFacts().with("wan", noCarrier), want: "net0 lan lan9 bridge"},
		"no carrier is not unfit":                            {req: vmnetd.Request{VM: "vm1"}, facts: exampleFacts().with("wan", noCarrier).without("lan9"), want: "net0 lan wan bridge"},
		"without any carrier the first that is there":        {req: vmnetd.Request{VM: "vm1"}, facts: exampleFacts().with("wan", noCarrier).with("lan9", noCarrier), want: "net0 lan wan bridge"},
		"an absent uplink is passed over":                    {req: vmnetd.Request{VM: "vm1"}, facts: exampleFacts().without("wan"), want: "net0 lan lan9 bridge"},
		"an uplink asked for without carrier":                {req: vmnetd.Request{VM: "vm1", Uplink: "wan"}, facts: exampleFacts().with("wan", noCarrier), want: "net0 lan wan bridge"},
		"one with carrier that is unfit leaves one without": {req: vmnetd.Request{VM: "vm1"}, want: "net0 lan wan bridge",
			facts: exampleFacts().with("wan", noCarrier).with("lan9", func(u *Uplink) { u.Master = "br0" })},
	} {
		t.Run(name, func(t *testing.T) {
			if c.facts.Uplinks == nil {
				c.facts = exampleFacts()
			}
			d, err := exampleSet().Decide(c.req, c.facts)
			if got := given(d); err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func withAtlantis() Facts {
	return exampleFacts().with("atlantis", func(u *Uplink) { *u = Uplink{Present: true, Ifname: "eno9", Carrier: true, Up: true, MTU: 1500} })
}

// refusals is every error with its exit code, its sentence and what comes next.
var refusals = map[string]struct {
	req  vmnetd.Request
	set  func(*Set)
	f    func(Facts) Facts
	exit int
	text string
	next string
}{
	"bad VM name":      {req: vmnetd.Request{VM: "a/b"}, exit: 2, text: `VM name "a/b" contains '/'`, next: "a VM name has 1 to 128 bytes, no '/', no control character and no leading '-'"},
	"bad id":           {req: vmnetd.Request{VM: "vm1", ID: "0net"}, exit: 2, text: `NIC id "0net" is not a letter followed by letters, digits, '-', '.' or '_'`, next: "an id is like net0 or lan.2"},
	"unknown mode":     {req: vmnetd.Request{VM: "vm1", Mode: "brigde"}, exit: 2, text: `unknown mode "brigde"`, next: "modes are bridge, vepa, private, passthru, l2, l3, switched"},
	"l3s":              {req: vmnetd.Request{VM: "vm1", Mode: "l3s"}, exit: 2, text: "mode l3s gives what arrives to this host's own stack, never to a guest (drivers/net/ipvlan/ipvlan_l3s.c)", next: "use l3, or l2"},
	"multicast MAC":    {req: vmnetd.Request{VM: "vm1", MAC: "01:00:5e:00:00:01"}, exit: 2, text: `MAC 01:00:5e:00:00:01 is a multicast address: its first byte must be even`, next: "leave it out for one that is made of VM and id, or write one such as 52:54:00:12:34:56"},
	"too many queues":  {req: vmnetd.Request{VM: "vm1", Queues: 257}, exit: 2, text: `257 queues: a device has 1 to 256`},
	"negative queues":  {req: vmnetd.Request{VM: "vm1", Queues: -1}, exit: 2, text: `-1 queues: a device has 1 to 256`},
	"unknown network":  {req: vmnetd.Request{VM: "vm1", Network: "lam"}, exit: 4, text: `there is no network "lam"`, next: "networks are lan, storage, fw, far"},
	"unknown uplink":   {req: vmnetd.Request{VM: "vm1", Uplink: "eth0"}, exit: 4, text: `there is no uplink "eth0"`, next: "uplinks are wan, lan9, eno5"},
	"no networks":      {req: vmnetd.Request{VM: "vm1"}, set: func(s *Set) { s.Networks = nil }, exit: 4, text: "no network is configured", next: "add one to networks: and a rule that gives it to vm1"},
	"no networks, one": {req: vmnetd.Request{VM: "vm1", Network: "x"}, set: func(s *Set) { s.Networks = nil }, exit: 4, text: `there is no network "x"`, next: "no network is configured: add one to networks:"},
	"no uplinks":       {req: vmnetd.Request{VM: "vm1", Uplink: "x"}, set: func(s *Set) { s.Uplinks = nil }, exit: 4, text: `there is no uplink "x"`, next: "no uplink is configured: add one to uplinks:"},
	"deny":             {req: vmnetd.Request{VM: "quarantine-1"}, exit: 3, text: `rule vm: "quarantine-*" (rules.yaml:2) denies quarantine-1/net0: INC-4711`, next: "a rule that gives it a network must stand before rules.yaml:2"},
	"deny of a network asked for": {req: vmnetd.Request{VM: "fw-1", Network: "lan"}, exit: 3,
		text: `rule vm: "fw-?" (rules.yaml:8) denies fw-1/net0: firewalls stay outside`, next: "vmnetd attach fw-1 --network fw"},
	"deny without networks": {req: vmnetd.Request{VM: "quarantine-1"}, set: func(s *Set) { s.Networks = nil }, exit: 3, text: `rule vm: "quarantine-*" (rules.yaml:2) denies quarantine-1/net0: INC-4711`,
		next: "a rule that gives it a network must stand before rules.yaml:2"},
	"no rule matches": {req: vmnetd.Request{VM: "vm1"}, set: func(s *Set) { s.Rules = s.Rules[:1] }, exit: 3,
		text: "no rule matches vm1/net0, and what no rule matches is denied", next: "add a rule that matches it to rules:"},
	"no rule gives the network": {req: vmnetd.Request{VM: "vm1", Network: "fw"}, exit: 3,
		text: `no rule gives vm1/net0 network fw; rule vm: "*" (rules.yaml:12) gives it lan`, next: "vmnetd attach vm1 --network lan"},
	"no rule gives anything": {req: vmnetd.Request{VM: "vm1", Network: "fw"}, set: func(s *Set) { s.Rules = nil }, exit: 3,
		text: `no rule gives vm1/net0 network fw`, next: "add a rule that matches it to rules:"},
	"uplink of another network": {req: vmnetd.Request{VM: "vm1", Uplink: "eno5"}, exit: 3,
		text: `rule vm: "*" (rules.yaml:12) does not give vm1/net0 uplink eno5: network lan (networks.yaml:2) has wan, lan9`, next: "ask for one of these with --uplink, or for none"},
	"mode of no one": {req: vmnetd.Request{VM: "vm1", Mode: "vepa"}, exit: 3,
		text: `rule vm: "*" (rules.yaml:12) does not give vm1/net0 mode vepa: allowed is bridge, private (network lan, networks.yaml:2)`, next: "ask for one of these with --mode, or for none"},
	"mode replaced by the rule": {req: vmnetd.Request{VM: "db-1", Mode: "bridge"}, exit: 3,
		text: `rule vm: ["db-*", "dwh-*"] (rules.yaml:3) does not give db-1/net0 mode bridge: allowed is private (the rule, rules.yaml:4)`, next: "ask for one of these with --mode, or for none"},
	"passthru of the network only": {req: vmnetd.Request{VM: "101", Mode: "passthru"}, exit: 3,
		text: `rule label: {tenant: t1} (rules.yaml:9) does not give 101/net0 mode passthru: network storage (networks.yaml:3) lists it, and it counts only where the rule itself does`,
		next: "a rule with modes: [passthru] must stand before rules.yaml:9"},
	"nothing but passthru of the network": {req: vmnetd.Request{VM: "101"}, exit: 3, set: func(s *Set) { s.Networks[1].Grant.Modes = []vmnetd.Mode{vmnetd.Passthru} },
		text: `rule label: {tenant: t1} (rules.yaml:9) does not give 101/net0 mode passthru: network storage (networks.yaml:3) lists it, and it counts only where the rule itself does`,
		next: "a rule with modes: [passthru] must stand before rules.yaml:9"},
	"an empty list of modes": {req: vmnetd.Request{VM: "101"}, exit: 3, set: func(s *Set) { s.Rules[4].Grant.Modes = []vmnetd.Mode{} },
		text: `rule label: {tenant: t1} (rules.yaml:9) does not give 101/net0 any mode (the rule, rules.yaml:9)`},
	"a MAC out of bounds": {req: vmnetd.Request{VM: "db-1", MAC: "52-54-01-00-00-01"}, exit: 3,
		text: `rule vm: ["db-*", "dwh-*"] (rules.yaml:3) does not give db-1/net0 MAC 52:54:01:00:00:01: allowed is 52:54:00:* (the rule, rules.yaml:6)`, next: "leave --mac away: one is derived"},
	"more queues than the number": {req: vmnetd.Request{VM: "db-1", Queues: 5}, exit: 3,
		text: `rule vm: ["db-*", "dwh-*"] (rules.yaml:3) does not give db-1/net0 5 queues: at most 4 (the rule, rules.yaml:5)`, next: "ask with --queues 4, or leave it away"},
	"no seed": {req: vmnetd.Request{VM: "vm1"}, f: func(f Facts) Facts { f.MACSeed = ""; return f }, exit: 1,
		text: "no MAC can be derived for vm1/net0: neither the VM's UUID nor this host's machine-id is known", next: "give one with --mac"},
	"network not on this host": {req: vmnetd.Request{VM: "vm1", Network: "far"}, exit: 4,
		text: "network far is not on this host: it has none of the network's uplinks (atlantis)", next: "vmnetd status shows the uplinks that are here"},
	"network without uplinks": {req: vmnetd.Request{VM: "vm1"}, set: func(s *Set) { s.Networks[0].Uplinks = nil }, exit: 4,
		text: "network lan is not on this host: it has none of the network's uplinks (none given)", next: "vmnetd status shows the uplinks that are here"},
	"uplink not on this host": {req: vmnetd.Request{VM: "vm1", Uplink: "lan9"}, f: func(f Facts) Facts { return f.without("lan9") }, exit: 4,
		text: "uplink lan9 of network lan is not on this host", next: "leave --uplink away, or see vmnetd status for the uplinks that are here"},
	"not told who may not have it": {req: vmnetd.Request{VM: "fw-1", Network: "storage"}, f: func(f Facts) Facts { return f.without("eno5") }, exit: 3,
		text: `no rule gives fw-1/net0 network storage; rule vm: "fw-?" (rules.yaml:7) gives it fw`, next: "vmnetd attach fw-1 --network fw"},
}

func TestRefusalsSayWhatIsWrongAndWhatNext(t *testing.T) {
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			s, f := exampleSet(), exampleFacts()
			if c.set != nil {
				c.set(s)
			}
			if c.f != nil {
				f = c.f(f)
			}
			_, err := s.Decide(c.req, f)
			if err == nil {
				t.Fatal("granted")
			}
			if got := vmnetd.ClassOf(err).Exit; got != c.exit {
				t.Errorf("exit %d, want %d", got, c.exit)
			}
			if diff := cmp.Diff([]string{c.text, c.next}, []string{err.Error(), vmnetd.NextOf(err)}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// oneUplink narrows the example to one uplink, so that unfit is busy.
func oneUplink(modes ...vmnetd.Mode) *Set {
	s := exampleSet()
	s.Networks[0].Uplinks = []string{"wan"}
	s.Rules[7].Grant = Grant{Modes: modes, ModesAt: at("rules.yaml", 12)}
	return s
}

func TestWhatDoesNotFitNowIsBusyWithEveryReason(t *testing.T) {
	const vm3 = "vm3/net0 (vmnsndugbw5rc)"
	pre := "network lan is open to vm1/net0, but nothing fits now: uplink wan: "
	mac := derived("net0")
	for name, c := range map[string]struct {
		mode   vmnetd.Mode
		mtu    int
		change func(*Uplink)
		text   string
		next   string
	}{
		"a port": {mode: "bridge", change: func(u *Uplink) { u.Master, u.MasterBy = "team0", "team" },
			text: "wan is a port of team team0, which takes all it receives", next: "make team0 the network's uplink instead of wan"},
		"a port of something unknown": {mode: "bridge", change: func(u *Uplink) { u.Master = "x0" },
			text: "wan is a port of device x0, which takes all it receives", next: "make x0 the network's uplink instead of wan"},
		"balance-tlb": {mode: "bridge", change: func(u *Uplink) { u.BondMode = "balance-tlb" },
			text: "bond mode balance-tlb rewrites the source MACs of guests", next: "give the bond another mode: active-backup, 802.3ad or balance-xor"},
		"another family": {mode: "bridge", change: func(u *Uplink) { u.Users = []User{{Ifname: "ipvl0", Kind: "ipvlan", Family: vmnetd.FamilyIpvlan}} },
			text: "wan carries ipvl0 (ipvlan, not of vmnetd), and one device carries ipvlan or macvlan, not both", next: "remove ipvl0, or use another uplink, or give network lan a vlan: a VLAN of wan carries either"},
		"another family of unknown kind": {mode: "bridge", change: func(u *Uplink) { u.Users = []User{{Ifname: "ipvl0", Family: vmnetd.FamilyIpvlan}} },
			text: "wan carries ipvl0 (not of vmnetd), and one device carries ipvlan or macvlan, not both", next: "remove ipvl0, or use another uplink, or give network lan a vlan: a VLAN of wan carries either"},
		"beside a passthru": {mode: "bridge", change: func(u *Uplink) { u.Users = []User{tapOf("vm3/net0", vmnetd.Passthru, "")} },
			text: "wan belongs to " + vm3 + " alone (passthru)", next: "vmnetd detach vm3 --id net0, or use another uplink"},
		"a passthru beside a passthru": {mode: "passthru", change: func(u *Uplink) { u.Users = []User{tapOf("vm3/net0", vmnetd.Passthru, "")} },
			text: "wan belongs to " + vm3 + " alone (passthru)", next: "vmnetd detach vm3 --id net0, or use another uplink"},
		"a passthru beside others": {mode: "passthru", change: func(u *Uplink) {
			u.Users = []User{tapOf("vm3/net0", vmnetd.Bridge, ""), {Ifname: "macvlan1", Kind: "macvlan", Family: vmnetd.FamilyMacvlan, Mode: vmnetd.Private}}
		}, text: "wan has " + vm3 + " and macvlan1 (macvlan, not of vmnetd) on it, and passthru takes a device whole", next: "vmnetd detach vm3 --id net0, or use another uplink"},
		"many others": {mode: "passthru", change: func(u *Uplink) {
			for _, o := range []string{"vm3/net0", "vm3/net0", "vm3/net0", "vm4/net0", "vm5/net0"} {
				u.Users = append(u.Users, tapOf(o, vmnetd.Bridge, ""))
			}
		}, text: "wan has " + vm3 + ", " + vm3 + ", " + vm3 + " and 2 more on it, and passthru takes a device whole", next: "vmnetd detach vm3 --id net0, or use another uplink"},
		"MTU": {mode: "bridge", mtu: 9000, text: "MTU 9000 (network lan, networks.yaml:2) is larger than the uplink's 1500",
			next: "raise the uplink's MTU to 9000, or lower the one at networks.yaml:2"},
		"MAC of a neighbour": {mode: "bridge", change: func(u *Uplink) { u.Users = []User{tapOf("vm3/net0", vmnetd.Private, strings.ToUpper(mac))} },
			text: "MAC " + mac + " is in use by " + vm3, next: "ask for another one with --mac"},
		"MAC of a foreign neighbour": {mode: "bridge", change: func(u *Uplink) {
			u.Users = []User{{Ifname: "macvtap0", Kind: "macvtap", Family: vmnetd.FamilyMacvlan, MAC: mac}}
		}, text: "MAC " + mac + " is in use by macvtap0 (macvtap, not of vmnetd)", next: "ask for another one with --mac"},
		"MAC of the uplink": {mode: "bridge", change: func(u *Uplink) { u.MAC, u.Ifname = mac, "bond0" },
			text: "MAC " + mac + " is that of wan (bond0) itself", next: "ask for another one with --mac"},
		"two reasons": {mode: "bridge", mtu: 9000, change: func(u *Uplink) { u.MAC = mac },
			text: "MTU 9000 (network lan, networks.yaml:2) is larger than the uplink's 1500, and MAC " + mac + " is that of wan itself",
			next: "raise the uplink's MTU to 9000, or lower the one at networks.yaml:2"},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := oneUplink(c.mode), exampleFacts()
			s.Networks[0].Grant.MTU = c.mtu
			if c.change != nil {
				f = f.with("wan", c.change)
			}
			_, err := s.Decide(vmnetd.Request{VM: "vm1"}, f)
			if got := vmnetd.ClassOf(err).Err; got != vmnetd.ErrBusy {
				t.Fatalf("class %v: %v", got, err)
			}
			if diff := cmp.Diff([]string{pre + c.text, c.next}, []string{err.Error(), vmnetd.NextOf(err)}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBusyTellsModesApartWhereTheirReasonsDiffer(t *testing.T) {
	f := exampleFacts().with("wan", func(u *Uplink) {
		u.MAC, u.Users = derived("net0"), []User{tapOf("vm3/net0", vmnetd.Bridge, "")}
	})
	_, err := oneUplink(vmnetd.Bridge, vmnetd.Passthru).Decide(vmnetd.Request{VM: "vm1"}, f)
	want := "network lan is open to vm1/net0, but nothing fits now: uplink wan: bridge: MAC " + derived("net0") +
		" is that of wan itself; passthru: wan has vm3/net0 (vmnsndugbw5rc) on it, and passthru takes a device whole"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestWhatIsNoConflict(t *testing.T) {
	own := vmnetd.Ifname("vm1", "net0")
	for name, c := range map[string]struct {
		mode   vmnetd.Mode
		change func(*Uplink)
	}{
		"the NIC's own device":          {"passthru", func(u *Uplink) { u.Users = []User{tapOf("vm1/net0", vmnetd.Passthru, derived("net0"))} }},
		"its own in another mode":       {"bridge", func(u *Uplink) { u.Users = []User{tapOf("vm1/net0", vmnetd.Private, derived("net0"))} }},
		"a VLAN with the uplink's MAC":  {"bridge", func(u *Uplink) { u.Users = []User{{Ifname: "wan.5", Kind: "vlan", MAC: u.MAC}} }},
		"a VLAN beside a passthru":      {"passthru", func(u *Uplink) { u.Users = []User{{Ifname: "wan.5", Kind: "vlan", MAC: derived("net0")}} }},
		"neighbours of the same family": {"bridge", func(u *Uplink) { u.Users = []User{tapOf("vm3/net0", vmnetd.VEPA, "52:54:00:00:00:03")} }},
		"the uplink's MAC in passthru":  {"passthru", func(u *Uplink) { u.MAC = derived("net0") }},
		"a bond that leaves MACs alone": {"bridge", func(u *Uplink) { u.BondMode = "802.3ad" }},
		"an MTU that is not known":      {"bridge", func(u *Uplink) { u.MTU = 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			f := exampleFacts().with("wan", c.change)
			f.Own = own
			if _, err := oneUplink(c.mode).Decide(vmnetd.Request{VM: "vm1"}, f); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestIDsAreTheNextFreeOnes(t *testing.T) {
	for _, c := range []struct {
		asked, chosen string
		taken         []string
		want          string
	}{
		{want: "net0"},
		{taken: []string{"net0", "net2"}, want: "net1"},
		{asked: "mgmt", taken: []string{"net0"}, want: "mgmt"},
		{chosen: "net5", want: "net5"},
		{chosen: "net5", taken: []string{"net5"}, want: "net0"},
	} {
		f := exampleFacts()
		f.Taken, f.VM.NIC = c.taken, c.chosen
		d, _ := exampleSet().Decide(vmnetd.Request{VM: "quarantine-1", ID: c.asked}, f)
		if d.ID != c.want {
			t.Errorf("asked %q, chosen %q, taken %v: got %s, want %s", c.asked, c.chosen, c.taken, d.ID, c.want)
		}
	}
}

func TestQueues(t *testing.T) {
	number := func(n int) Queues { return Queues{Given: true, N: n} }
	auto := Queues{Given: true, Auto: true}
	for _, c := range []struct {
		name                    string
		defaults, network, rule Queues
		vcpus, asked            int
		want                    int
		by                      string
	}{
		{name: "nothing is given: the vCPUs", vcpus: 3, want: 3, by: "its vCPUs"},
		{name: "at most 8", defaults: auto, vcpus: 64, want: 8, by: "its vCPUs"},
		{name: "at least 1", defaults: auto, want: 1, by: "its vCPUs are not known"},
		{name: "the network beats the defaults", defaults: number(2), network: number(3), vcpus: 9, want: 3, by: "networks.yaml:2"},
		{name: "the rule beats the network", network: number(3), rule: number(16), want: 16, by: "rules.yaml:12"},
		{name: "auto in the rule beats a number", network: number(3), rule: auto, vcpus: 2, want: 2, by: "its vCPUs"},
		{name: "fewer than the number", rule: number(16), asked: 2, want: 2, by: "asked for"},
		{name: "as many as the number", rule: number(16), asked: 16, want: 16, by: "asked for"},
		{name: "auto sets no limit", rule: auto, vcpus: 2, asked: 256, want: 256, by: "asked for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, f := exampleSet(), exampleFacts()
			s.Defaults.Queues, s.Networks[0].Grant.Queues, s.Rules[7].Grant.Queues = c.defaults, c.network, c.rule
			f.VM.VCPUs = c.vcpus
			d, err := s.Decide(vmnetd.Request{VM: "vm1", Queues: c.asked}, f)
			if err != nil || d.Queues != c.want || d.QueuesBy != c.by {
				t.Errorf("got %d (%s), %v, want %d (%s)", d.Queues, d.QueuesBy, err, c.want, c.by)
			}
		})
	}
}

func TestMACs(t *testing.T) {
	none := []string{}
	for _, c := range []struct {
		name, asked, want, from string
		allow                   []string
		denied                  bool
	}{
		{name: "derived from seed and id", want: derived("net0"), from: "derived"},
		{name: "derived where none may be named", allow: none, want: derived("net0"), from: "derived"},
		{name: "any where nothing limits it", asked: "52-54-00-AA-BB-CC", want: "52:54:00:aa:bb:cc", from: "asked for"},
		{name: "within the globs, whatever the case", asked: "52:54:00:aa:bb:cc", allow: []string{"02:*", "52:54:00:AA:*"}, want: "52:54:00:aa:bb:cc", from: "asked for"},
		{name: "the derived one may be named", asked: derived("net0"), allow: none, want: derived("net0"), from: "asked for"},
		{name: "none may be named", asked: "52:54:00:aa:bb:cc", allow: none, denied: true},
		{name: "beyond the globs", asked: "52:54:00:aa:bb:cc", allow: []string{"52:54:01:*"}, denied: true},
		{name: "a broken glob allows nothing", asked: "52:54:00:aa:bb:cc", allow: []string{"["}, denied: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := exampleSet()
			s.Networks[0].Grant.MACs = c.allow
			d, err := s.Decide(vmnetd.Request{VM: "vm1", MAC: c.asked}, exampleFacts())
			if c.denied {
				if vmnetd.ClassOf(err).Err != vmnetd.ErrDenied {
					t.Errorf("not denied: %v", err)
				}
				return
			}
			if err != nil || d.MAC != c.want || d.MACFrom != c.from {
				t.Errorf("got %s (%s), %v, want %s (%s)", d.MAC, d.MACFrom, err, c.want, c.from)
			}
		})
	}
}

func TestMTUIsTheUplinksUnlessGiven(t *testing.T) {
	s := exampleSet()
	d, err := s.Decide(vmnetd.Request{VM: "vm1"}, exampleFacts())
	if err != nil || d.MTU != 1500 {
		t.Errorf("got %d, %v, want the uplink's 1500", d.MTU, err)
	}
	s.Defaults.MTU, s.Networks[0].Grant.MTU, s.Rules[7].Grant.MTU = 1300, 1400, 1450
	for _, want := range []int{1450, 1400, 1300} {
		d, err := s.Decide(vmnetd.Request{VM: "vm1"}, exampleFacts())
		if err != nil || d.MTU != want {
			t.Errorf("got %d, %v, want %d", d.MTU, err, want)
		}
		if s.Rules[7].Grant.MTU != 0 {
			s.Rules[7].Grant.MTU = 0
			continue
		}
		s.Networks[0].Grant.MTU = 0
	}
}

func TestReasonsSayWhyRuleNetworkUplinkAndMode(t *testing.T) {
	noCarrier := func(u *Uplink) { u.Carrier = false }
	rule := `rule vm: "*" (rules.yaml:12) is the first that matches vm1/net0 and network lan`
	first := "network lan (networks.yaml:2): none was asked for, and it is the first that the rules give"
	mode := "mode bridge: first of bridge, private (network lan, networks.yaml:2); fits"
	for name, c := range map[string]struct {
		req  vmnetd.Request
		f    Facts
		want []string
	}{
		"nothing asked for": {f: exampleFacts(), want: []string{rule, first, "uplink wan: first of wan, lan9; fits", mode}},
		"all asked for": {req: vmnetd.Request{Network: "lan", Uplink: "lan9", Mode: "private"}, f: exampleFacts(), want: []string{rule,
			"network lan (networks.yaml:2): asked for", "uplink lan9: asked for, and fits", "mode private: asked for; one of bridge, private (network lan, networks.yaml:2)"}},
		"by carrier":      {f: exampleFacts().with("wan", noCarrier), want: []string{rule, first, "uplink lan9: first of wan, lan9 that is here, has carrier and fits", mode}},
		"without carrier": {f: exampleFacts().without("wan").with("lan9", noCarrier), want: []string{rule, first, "uplink lan9: first of wan, lan9 that is here and fits; none that fits has carrier", mode}},
		"host not looked at": {f: Facts{Unknown: true}, want: []string{rule, first, "uplink wan: the host was not looked at; taken to be there",
			"mode bridge: first of bridge, private (network lan, networks.yaml:2)"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.VM = "vm1"
			d, err := exampleSet().Decide(c.req, c.f)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, d.Reasons); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestModesNobodyGaveAreBridge(t *testing.T) {
	d, err := exampleSet().Decide(vmnetd.Request{VM: "vm1", Network: "far"}, withAtlantis())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"uplink atlantis: the network's only one, and fits", "mode bridge: none is configured, so it is bridge"}
	if diff := cmp.Diff(want, d.Reasons[2:]); diff != "" {
		t.Error(diff)
	}
	_, err = exampleSet().Decide(vmnetd.Request{VM: "vm1", Network: "far", Mode: "private"}, withAtlantis())
	if vmnetd.ClassOf(err).Err != vmnetd.ErrDenied {
		t.Errorf("private: %v", err)
	}
}

func TestSecondChoiceIsToldAndMeasuredAgainstWhatThisHostDeclares(t *testing.T) {
	f := exampleFacts().without("wan")
	s := exampleSet()
	d, _ := s.Decide(vmnetd.Request{VM: "vm1"}, f)
	const want = "vm1 is not on the network's first choice, wan: it is not on this host now"
	if !d.Second || d.Mind[len(d.Mind)-1] != want {
		t.Errorf("Second %v, Mind %q", d.Second, d.Mind)
	}
	s.Uplinks = []string{"lan9"} // a host that is not meant to have wan
	d, _ = s.Decide(vmnetd.Request{VM: "vm1"}, f)
	if d.Second || strings.Contains(strings.Join(d.Mind, " "), "first choice") {
		t.Errorf("on a host without wan, lan9 is the first choice: %q", d.Mind)
	}
}

func TestAnErrorStillListsTheAlternatives(t *testing.T) {
	d, err := exampleSet().Decide(vmnetd.Request{VM: "101", Mode: "bridge"}, exampleFacts())
	if vmnetd.ClassOf(err).Err != vmnetd.ErrDenied {
		t.Fatal(err)
	}
	want := []Rejected{
		{"network lan", "not asked for; rules.yaml:12 gives it: --network lan"},
		{"network far", "not on this host; rules.yaml:12 gives it"},
		{"network fw", "no rule gives it to 101/net0"},
		{"mode vepa", "allowed; ask with --mode vepa"},
		{"mode bridge", "network storage (networks.yaml:3) does not allow it"},
		{"mode private", "network storage (networks.yaml:3) does not allow it"},
		{"mode passthru", "only where the rule itself lists it, and rules.yaml:9 does not"},
		{"mode l2", "network storage (networks.yaml:3) does not allow it"},
		{"mode l3", "network storage (networks.yaml:3) does not allow it"},
		{"mode switched", "network storage (networks.yaml:3) does not allow it"},
	}
	if diff := cmp.Diff(want, d.Not); diff != "" {
		t.Error(diff)
	}
}

func TestMindPassthruNamesTheAddressesTheHostLoses(t *testing.T) {
	d, err := oneUplink(vmnetd.Passthru).Decide(vmnetd.Request{VM: "vm1"}, exampleFacts())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"passthru takes wan away from this host (its 192.0.2.17): while vm1 has it, the host itself receives nothing there"}
	if diff := cmp.Diff(want, d.Mind); diff != "" {
		t.Error(diff)
	}
}

func TestLinkLocalAddressesAreToldOnlyWhereThereIsNoOther(t *testing.T) {
	for want, addrs := range map[string][]string{
		"this host (192.0.2.17, 2001:db8::1 on wan) and vm1 cannot reach each other: macvtap; to open it:  vmnetd host-link lan": {"192.0.2.17/24", "fe80::1/64", "2001:db8::1/64"},
		"this host (fe80::1 on wan) and vm1 cannot reach each other: macvtap; to open it:  vmnetd host-link lan":                 {"fe80::1/64"},
	} {
		f := exampleFacts().with("wan", func(u *Uplink) {
			u.Hosts = nil
			for _, a := range addrs {
				u.Hosts = append(u.Hosts, netip.MustParsePrefix(a))
			}
		})
		d, err := oneUplink(vmnetd.Bridge).Decide(vmnetd.Request{VM: "vm1"}, f)
		if err != nil || d.Mind[0] != want {
			t.Errorf("got %q, %v, want %q", d.Mind, err, want)
		}
	}
}

func TestMindSaysWhoIsLostWithoutCarrier(t *testing.T) {
	f := exampleFacts().with("wan", func(u *Uplink) { u.Carrier = false })
	for mode, want := range map[vmnetd.Mode]string{
		"bridge":  "wan has no carrier now: until it has, vm1 reaches nobody, and guests on it lose each other as well",
		"private": "wan has no carrier now: until it has, vm1 reaches nobody",
	} {
		d, err := oneUplink(mode).Decide(vmnetd.Request{VM: "vm1"}, f)
		if err != nil || d.Mind[1] != want {
			t.Errorf("%s: %q, %v", mode, d.Mind, err)
		}
	}
}

func TestExplainWithoutAHostFindsNothingUnfit(t *testing.T) {
	f := exampleFacts().with("wan", func(u *Uplink) { u.Master, u.BondMode, u.MTU = "br0", "balance-alb", 500 })
	f.Unknown = true
	d, err := oneUplink(vmnetd.Bridge).Decide(vmnetd.Request{VM: "vm1"}, f)
	if err != nil || d.Uplink != "wan" {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestAHostWithoutTheAskedUplinkMayStillShareItsNetwork(t *testing.T) {
	_, err := exampleSet().Decide(vmnetd.Request{VM: "vm1", Network: "far", Uplink: "atlantis"}, exampleFacts())
	if vmnetd.ClassOf(err).Err != vmnetd.ErrNotFound || !strings.HasPrefix(err.Error(), "network far is not on this host") {
		t.Error(err)
	}
}

func TestOrdinalsReadAsWords(t *testing.T) {
	for n, want := range map[int]string{1: "first", 5: "fifth", 6: "6th", 11: "11th"} {
		if got := ordinal(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestTheMACThatWasDerivedBeforeTheVMHadAUUIDIsGiven(t *testing.T) {
	f := exampleFacts()
	f.NameSeed = "machine/db-1"
	before := vmnetd.DeriveMAC(f.NameSeed, "net0").String()
	d, err := exampleSet().Decide(vmnetd.Request{VM: "db-1", ID: "net0", MAC: before}, f)
	if err != nil || d.MAC != before {
		t.Errorf("%+v, %v", d, err)
	}
	f.NameSeed = "machine/db-2"
	if _, err := exampleSet().Decide(vmnetd.Request{VM: "db-1", ID: "net0", MAC: before}, f); !errors.Is(err, vmnetd.ErrDenied) {
		t.Errorf("%v", err)
	}
}
