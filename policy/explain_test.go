package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/vmnetd/vmnetd"
)

var update = flag.Bool("update", false, "write the golden explain texts anew")

type explainCase struct {
	name  string
	req   vmnetd.Request
	facts func(Facts) Facts
	set   func(*Set)
	all   bool
}

func users(name string, us ...User) func(Facts) Facts {
	return func(f Facts) Facts { return f.with(name, func(u *Uplink) { u.Users = us }) }
}

// vlanNetwork adds network v100 on a VLAN of wan, open to everybody.
func vlanNetwork(id int) func(*Set) {
	return func(s *Set) {
		s.Networks = append(s.Networks, Network{Name: "v100", Uplinks: []string{"wan"}, VLAN: id, At: at("networks.yaml", 6), Grant: Grant{
			Modes: []vmnetd.Mode{vmnetd.Bridge}, ModesAt: at("networks.yaml", 6), MTU: 1500, MTUAt: at("networks.yaml", 6),
			Link: LinkFollow, LinkAt: at("networks.yaml", 6)}})
		s.Rules[len(s.Rules)-1].Networks = nil
	}
}

var explainCases = []explainCase{
	{name: "granted", req: vmnetd.Request{VM: "vm2"}},
	{name: "all flags given", req: vmnetd.Request{VM: "db-1", Network: "lan", Uplink: "lan9", Mode: "private", MAC: "52:54:00:12:34:56", Queues: 2, ID: "net7", Via: "qmp:/run/x y.sock"}},
	{name: "queues from the rule", req: vmnetd.Request{VM: "dwh-2"}},
	{name: "passthru that the rule lists", req: vmnetd.Request{VM: "fw-1", Mode: "passthrough"}},
	{name: "vepa, MTU from the network, vhost missing", req: vmnetd.Request{VM: "101"}, facts: func(f Facts) Facts {
		f.VHost, f.VHostReason = false, "this kernel has no vhost-net"
		return f
	}},
	{name: "second choice by carrier", req: vmnetd.Request{VM: "vm2"}, facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) { u.Carrier = false })
	}},
	{name: "second choice by a bond mode", req: vmnetd.Request{VM: "vm2"}, facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) { u.BondMode = "balance-alb" })
	}},
	{name: "no carrier anywhere", req: vmnetd.Request{VM: "vm2"}, facts: func(f Facts) Facts {
		down := func(u *Uplink) { u.Carrier = false }
		return f.with("wan", down).with("lan9", down)
	}},
	{name: "second mode because the first does not fit", req: vmnetd.Request{VM: "101", Network: "storage"}, set: func(s *Set) {
		s.Rules[4].Grant = Grant{Modes: []vmnetd.Mode{vmnetd.Passthru, vmnetd.Bridge}, ModesAt: at("rules.yaml", 9)}
	}, facts: users("eno5", tapOf("vm3/net0", vmnetd.Bridge, "52:54:00:00:00:03"))},
	{name: "all about libvirt, MAC to be changed", req: vmnetd.Request{VM: "vm2", Via: "libvirt", Handover: "fd", Live: true, Config: true, Incoming: true}, set: func(s *Set) {
		s.Rules[7].Grant.MACChange, s.Rules[7].Grant.MACChangeAt = ChangeAllow, at("rules.yaml", 13)
	}},
	{name: "labels of its metadata, where they count", req: vmnetd.Request{VM: "vm2"}, facts: func(f Facts) Facts {
		f.VM.Labels = map[string]string{"tenant": "t1"}
		return f
	}},
	{name: "labels of its metadata that vms: contradicts", req: vmnetd.Request{VM: "101", Network: "storage"}, set: func(s *Set) {
		s.Labels["101"] = map[string]string{"tenant": "t2"}
	}, facts: func(f Facts) Facts {
		f.VM.Labels = map[string]string{"tenant": "t1", "tier": "gold"}
		return f
	}},
	{name: "denied by a deny rule", req: vmnetd.Request{VM: "quarantine-7"}},
	{name: "denied because no rule gives the network", req: vmnetd.Request{VM: "vm2", Network: "fw"}},
	{name: "denied mode", req: vmnetd.Request{VM: "vm2", Mode: "vepa"}},
	{name: "denied passthru of the network", req: vmnetd.Request{VM: "101", Mode: "passthru"}},
	{name: "busy with each reason", req: vmnetd.Request{VM: "vm2"}, facts: func(f Facts) Facts {
		f = f.with("wan", func(u *Uplink) {
			u.Users = []User{{Ifname: "ipvl0", Kind: "ipvlan", Family: vmnetd.FamilyIpvlan}}
			u.MAC = derived("net0")
		})
		return f.with("lan9", func(u *Uplink) { u.Master, u.MasterBy = "br0", "bridge" })
	}},
	{name: "not on this host", req: vmnetd.Request{VM: "vm2", Network: "far"}},
	{name: "unknown network", req: vmnetd.Request{VM: "vm2", Network: "lam"}},
	{name: "names that a terminal would act on", req: vmnetd.Request{VM: "quarantine-\u202e7"}, set: func(s *Set) {
		s.Rules[0].Deny = "see \x1b[31mINC\x1b[0m"
	}},
	{name: "a VM name with blanks", req: vmnetd.Request{VM: "my vm's"}},
	{name: "from a file, host not looked at", req: vmnetd.Request{VM: "vm2"}, facts: func(Facts) Facts { return Facts{Unknown: true} }},
	{name: "from a shared file that declares no uplinks", req: vmnetd.Request{VM: "vm2"}, set: func(s *Set) { s.Uplinks = nil },
		facts: func(Facts) Facts { return Facts{Unknown: true} }},
	{name: "long names, a path, down", req: vmnetd.Request{VM: "vm2", Network: "a-network-of-many-words"}, set: func(s *Set) {
		s.Networks = append(s.Networks,
			Network{Name: "a-network-of-many-words", Uplinks: []string{"wan"}, At: at("/etc/vmnetd/conf.d/20-networks-of-the-whole-site.yaml", 212)},
			Network{Name: "lan9", At: at("networks.yaml", 7), Uplinks: []string{"lan9"}},
			Network{Name: "another-network-of-many-words", At: at("networks.yaml", 8), Uplinks: []string{"wan"}},
			Network{Name: "storage-backup", At: at("networks.yaml", 9), Uplinks: []string{"wan"}})
		s.Defaults.Modes = []vmnetd.Mode{vmnetd.Bridge}
		s.Rules[7].Networks = nil
		s.Rules[7].Text = `vm: ["vm1", "vm2", "vm3", "vm4"], label: {tenant: t1}`
	}, facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) { u.Up, u.Carrier, u.Path = false, false, "team0 > eno1" })
	}},
	{name: "VLAN, path, link from the network", req: vmnetd.Request{VM: "vm2", Network: "v100"}, set: vlanNetwork(100), facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) { u.Path, u.BondMode = "team0 > eno1", "active-backup" })
	}},
	{name: "VLAN device that is there, with the host on it", req: vmnetd.Request{VM: "vm2", Network: "v100"}, set: vlanNetwork(100), facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) {
			u.VLANs = map[int]Uplink{100: {Ifname: "wan.100", MTU: 1500, MAC: u.MAC, Hosts: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24")}}}
		})
	}},
	{name: "VLAN device that has no room", req: vmnetd.Request{VM: "vm2", Network: "v100"}, set: vlanNetwork(100), facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) {
			u.VLANs = map[int]Uplink{100: {Ifname: "wan.100", MTU: 1400, MAC: u.MAC, Master: "br0", MasterBy: "bridge",
				Users: []User{tapOf("vm9/net0", vmnetd.Bridge, derived("net0"))}}}
		})
	}},
	{name: "VLAN from a file, host not looked at", req: vmnetd.Request{VM: "vm2", Network: "v100"}, set: vlanNetwork(100), facts: func(Facts) Facts { return Facts{Unknown: true} }},
	{name: "uplink declared and never applied", req: vmnetd.Request{VM: "vm2"}, facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) { *u = Uplink{NotApplied: true} })
	}},
	{name: "no uplink applied", req: vmnetd.Request{VM: "vm2"}, facts: func(f Facts) Facts {
		return f.without("lan9").with("wan", func(u *Uplink) { *u = Uplink{NotApplied: true} })
	}},
	{name: "uplink asked for that was never applied", req: vmnetd.Request{VM: "vm2", Uplink: "wan"}, facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) { *u = Uplink{NotApplied: true} })
	}},
	{name: "auto on a port that takes one MAC", req: vmnetd.Request{VM: "vm2"}, set: func(s *Set) {
		s.Networks[0].Uplinks = []string{"wan"}
		s.Networks[0].Grant.Modes = []vmnetd.Mode{vmnetd.Auto}
		s.Networks[0].Grant.IPs, s.Networks[0].Grant.IPsAt = IPs{Given: true, Learn: true, Within: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, at("networks.yaml", 2)
		s.Limits = map[string]Limits{"wan": {MaxMACs: 1, MaxMACsAt: at("vmnetd.yaml", 5)}}
	}},
	{name: "l3 with an address, filter and bandwidth from all layers", req: vmnetd.Request{VM: "vm2", IPs: []string{"198.51.100.7"}}, set: func(s *Set) {
		yes, no := true, false
		s.Defaults.Filter = Filter{Spoof: &yes, SpoofAt: at("vmnetd.yaml", 9)}
		s.Networks[0].Grant.Modes = []vmnetd.Mode{vmnetd.L3}
		s.Networks[0].Grant.Filter = Filter{Ethertypes: []uint16{0x800, 0x806, 0x88b5}, EthertypesAt: at("networks.yaml", 2)}
		s.Networks[0].Grant.Bandwidth, s.Networks[0].Grant.InAt = Bandwidth{In: Rate{Bits: 1e9, Burst: 64000}}, at("networks.yaml", 2)
		s.Rules[7].Grant = Grant{Filter: Filter{RA: &no, RAAt: at("rules.yaml", 13)}, Bandwidth: Bandwidth{Out: Rate{Bits: 2.5e9}}, OutAt: at("rules.yaml", 14),
			Extra: Extra{MACs: []string{"00:00:5e:00:01:01"}, IPs: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}}, ExtraAt: at("rules.yaml", 15)}
	}},
	{name: "a namespace that is trusted", req: vmnetd.Request{VM: "web", Via: "netns:/run/netns/web", IPs: []string{"192.0.2.9/24"}, Routes: []string{"default via 192.0.2.1"}}, facts: func(f Facts) Facts {
		f.Netns, f.VM.Where = &Netns{Path: "/run/netns/web", Trusted: true}, "namespace"
		f.HostLinks = map[string]bool{"lan": true}
		return f
	}},
	{name: "a namespace that is not", req: vmnetd.Request{VM: "web", Via: "netns:/run/netns/web"}, facts: func(f Facts) Facts {
		f.Netns, f.VM.Where = &Netns{Path: "/run/netns/web"}, "namespace"
		return f
	}},
	{name: "switched, on a bridge without carrier, VLAN", req: vmnetd.Request{VM: "vm2", Network: "v100"}, set: func(s *Set) {
		vlanNetwork(100)(s)
		s.Networks[4].Grant.Modes, s.Networks[4].Trunk = []vmnetd.Mode{vmnetd.Auto}, []vmnetd.VLANRange{{From: 200, To: 299}, {From: 7, To: 7}}
	}, facts: func(f Facts) Facts {
		return f.with("wan", func(u *Uplink) { u.Kind, u.Filtering, u.Carrier, u.BondMode = "bridge", true, false, "" })
	}},
	{name: "private ipvtaps", req: vmnetd.Request{VM: "vm2", IPs: []string{"192.0.2.8"}}, set: func(s *Set) {
		s.Networks[0].Grant.Modes, s.Networks[0].Grant.Flag = []vmnetd.Mode{vmnetd.L2}, FlagPrivate
	}},
	{name: "l3 by name without an address", req: vmnetd.Request{VM: "vm2", Mode: "l3"}, set: func(s *Set) {
		s.Networks[0].Grant.Modes = []vmnetd.Mode{vmnetd.L3}
	}},
	{name: "all", req: vmnetd.Request{VM: "101", Network: "lan"}, all: true},
	{name: "all of a VM that gets nothing", req: vmnetd.Request{VM: "quarantine-7"}, all: true},
	{name: "all of a name that is none", req: vmnetd.Request{VM: "../x"}, all: true},
}

func (c explainCase) run() []Explanation {
	s, f := exampleSet(), exampleFacts()
	if c.set != nil {
		c.set(s)
	}
	if c.facts != nil {
		f = c.facts(f)
	}
	if c.all {
		return s.ExplainAll(c.req, func(string) Facts { return f })
	}
	return []Explanation{s.Explain(c.req, f)}
}

func text(t *testing.T, ex []Explanation) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteText(&b, ex, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExplainReadsAsWrittenDown(t *testing.T) {
	file := filepath.Join("testdata", "explain.txtar")
	var got txtar.Archive
	for _, c := range explainCases {
		got.Files = append(got.Files, txtar.File{Name: c.name, Data: []byte(text(t, c.run()))})
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(&got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Files) != len(got.Files) {
		t.Fatalf("%s has %d texts, want %d: run the test with -update and read the difference", file, len(want.Files), len(got.Files))
	}
	for i, w := range want.Files {
		if diff := cmp.Diff(w.Name+"\n"+string(w.Data), got.Files[i].Name+"\n"+string(got.Files[i].Data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", w.Name, diff)
		}
	}
}

func TestTextKeepsTo80Columns(t *testing.T) {
	for _, c := range explainCases {
		for _, line := range strings.Split(text(t, c.run()), "\n") {
			if n := columns(line); n > 80 && !strings.HasPrefix(line, "next: vmnetd attach") {
				t.Errorf("%s: %d columns: %s", c.name, n, line)
			}
		}
	}
}

func TestTextEscapesWhatTerminalsActOn(t *testing.T) {
	e := Explanation{VM: "\x1b]0;x", Where: "\x1b[1m", Error: "\x07", Next: "\x1b[2J", Network: "\x1b",
		Lines: []Line{{"\x1b", "\x1b[3m", "\x9b"}}, Not: []Rejected{{"mode \x1b", "\x1b"}}, Mind: []string{"\u202e"}}
	denied := e
	denied.ExitCode = 3
	for _, ex := range [][]Explanation{{e}, {e, denied}} {
		if got := text(t, ex); strings.ContainsAny(got, "\x1b\x07\u202e\u009b") {
			t.Errorf("control characters reach the terminal: %q", got)
		}
	}
}

// Scripts iterate over the lists: they are never null.
func TestJSONListsAreNeverNull(t *testing.T) {
	for _, c := range explainCases {
		b, err := json.Marshal(c.run())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(":null")) || bytes.Equal(b, []byte("null")) {
			t.Errorf("%s: %s", c.name, b)
		}
	}
}

func TestExplainAllListsOpenNetworksInTheOrderOfTheRules(t *testing.T) {
	var got []string
	for _, e := range exampleSet().ExplainAll(vmnetd.Request{VM: "101"}, func(string) Facts { return exampleFacts() }) {
		got = append(got, e.Network+"="+map[bool]string{true: "granted", false: e.Error}[e.Granted])
	}
	want := []string{"storage=granted", "lan=granted",
		"far=network far is not on this host: it has none of the network's uplinks (atlantis)",
		"fw=no rule gives 101/net0 network fw; rule label: {tenant: t1} (rules.yaml:9) gives it storage"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestExplainAllAsksForTheFactsOfEachNetwork(t *testing.T) {
	asked := map[string]bool{}
	exampleSet().ExplainAll(vmnetd.Request{VM: "vm2"}, func(n string) Facts {
		asked[n] = true
		return exampleFacts()
	})
	for _, n := range []string{"lan", "far"} {
		if !asked[n] {
			t.Errorf("the facts of network %s were not asked for", n)
		}
	}
}

func TestWidthIsKept(t *testing.T) {
	var b bytes.Buffer
	if err := WriteText(&b, explainCases[0].run(), TextOptions{Width: 60}); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if columns(line) > 60 {
			t.Errorf("%d columns: %s", columns(line), line)
		}
	}
}
