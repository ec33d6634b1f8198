package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
)

// firstPlan is the plan of a host that has its address on a port to be.
func firstPlan() vmnetd.Plan {
	return vmnetd.Plan{
		From: "/etc/vmnetd", Never: true,
		Changes: []vmnetd.PlanChange{
			{Op: "+", Name: "team0", Kind: "team", Text: "team, activebackup; eno1 prio 100, eno2 prio 10 sticky", Detail: []string{"MAC 3c:ec:ef:01:02:03 (eno1's own, kept from now on), MTU 1500"}},
			{Op: "+", Name: "wan", Kind: "anchor", Text: "anchor over team0, same MAC and MTU"},
			{Op: "~", Name: "eno1", Kind: "nic", Text: "becomes a port of team0; carries this SSH session"},
			{Op: "~", Name: "eno2", Kind: "nic", Text: "becomes a port of team0"},
			{Op: ">", Name: "192.0.2.17/24", Text: "192.0.2.17/24 and the default route via 192.0.2.1 move from eno1 to wan"},
		},
		Cost: []string{"host: about 1 s without network, then announced by ARP", "guests: none on eno1, eno2"},
		Problems: []vmnetd.Check{{
			Level: vmnetd.LevelFail, Name: "at boot",
			Text: "/etc/network/interfaces:9 gives 192.0.2.17 to eno1, so after a reboot this host would have no address",
			Do:   "change it to\nauto wan\niface wan inet static",
		}},
	}
}

// lacpBond is a bond of which one port found no partner.
func lacpBond() vmnetd.UplinkState {
	return vmnetd.UplinkState{
		Name: "bond0", Kind: "bond", Ifname: "bond0", Ifindex: 12, MAC: "3c:ec:ef:01:02:03", MTU: 9000, State: "degraded", Path: "eno3", Ports: []string{"eno3", "eno4"}, Guests: 2,
		Problem: "eno4 found no partner: is its switch port in the group?", Since: testNow.Add(-time.Hour), Last: "eno4 lost",
		Bond: &vmnetd.BondState{
			Mode: "802.3ad", Options: map[string]string{"lacp_rate": "fast", "miimon": "100", "ad_actor_system": ""},
			Aggregator: &vmnetd.Aggregator{ID: 1, Ports: 1, ActorKey: 15, PartnerKey: 32768, PartnerMAC: "00:1c:73:aa:bb:cc"},
			Ports: []vmnetd.BondPort{
				{Name: "eno3", State: "active", MII: "up", PermMAC: "3c:ec:ef:01:02:03", Aggregator: 1, Actor: []string{"activity", "timeout", "aggregation"}, Partner: []string{"activity", "aggregation"}, ActorChurn: "none", PartnerChurn: "none"},
				{Name: "eno4", State: "active", MII: "up", PermMAC: "3c:ec:ef:01:02:04", Aggregator: 2, LinkFailures: 3, QueueID: 2, Prio: 5, Actor: []string{"activity", "defaulted"}, ActorChurn: "churned", PartnerChurn: "churned"},
			},
		},
	}
}

func lacpTeam() vmnetd.UplinkState {
	u := vmnetd.UplinkState{Name: "team1", Kind: "external", Ifname: "team1", Ifindex: 4, State: "up", Team: &vmnetd.TeamState{
		Runner: "lacp", Controller: "running", LACP: &vmnetd.TeamLACP{Active: true, FastRate: true, SysPrio: 65535, SelectPolicy: "lacp_prio"},
		Ports: []vmnetd.TeamPort{
			{Name: "eno5", Link: true, Speed: 1000, Duplex: "full", QueueID: 3, DownCount: 1, LACPState: "current", Aggregator: 5, Selected: true, Actor: []string{"activity"}, Partner: []string{"activity", "collecting"}, PartnerMAC: "00:1c:73:aa:bb:cc",
				Watches: []vmnetd.TeamWatch{{Name: "ethtool", Up: true}, {Name: "arp_ping", Down: 12}}},
			{Name: "eno6", QueueID: -1, LACPState: "defaulted", PartnerMAC: "00:00:00:00:00:00"},
		},
	}}
	return u
}

// routedGuest is a NIC in mode l3, of which one address was learned.
func routedGuest() vmnetd.Attachment {
	one := nic("vm1", "net0")
	one.Kind, one.Mode, one.IPs, one.Learned = vmnetd.Ipvtap, vmnetd.L3, []string{"192.0.2.101", "2001:db8::101"}, []string{"2001:db8::101"}
	one.GuestSide = []string{"192.0.2.101/32", "2001:db8::101/128"}
	return one
}

// endpoint is a device in a network namespace.
func endpoint() vmnetd.Attachment {
	one := nic("c1", "net0")
	one.Kind, one.Mode, one.Uplink, one.Via, one.Name, one.Queues, one.VHost = vmnetd.Veth, vmnetd.Switched, "br0", "netns:/run/netns/c1", "eth0", 0, false
	one.IPs, one.Routes = []string{"192.0.2.9/24"}, []string{"default via 192.0.2.1", "198.51.100.0/24 via 192.0.2.7"}
	return one
}

func someCounters() []vmnetd.Counter {
	return []vmnetd.Counter{
		{Rule: "everything else", Packets: 1830211, Bytes: 2650123456}, {Rule: "source MAC", Packets: 3, Bytes: 180, Dropped: true},
		{Rule: "answers of a DHCP server", Dropped: true},
	}
}

func brokenLink() vmnetd.HostLink {
	return vmnetd.HostLink{Network: "v100", Uplink: "wan", VLAN: 100, Ifname: "vmlc6h2a9k3d", Kind: vmnetd.Ipvlan, Mode: vmnetd.L2, Problem: "wan is not on this host now"}
}

func TestScreensAreWhatIsWrittenDown(t *testing.T) {
	t.Setenv("TZ", "UTC")
	live := firstPlan()
	live.Never, live.Problems = false, nil
	live.Changes[0] = vmnetd.PlanChange{Op: "~", Name: "bond0", Text: "mode active-backup -> 802.3ad", Detail: []string{"needs all ports out"}, Impact: "3 guests lose link for about 1 s"}
	live.Mind = []string{"eno2 has an address by DHCP, which is not moved: its tool must be told, or it keeps asking on a port that answers nobody"}
	waits := vmnetd.Plan{From: "/etc/vmnetd", Pending: &vmnetd.Applied{ID: "a1", Until: testNow.Add(time.Minute)}}
	two := firstPlan()
	two.Problems = append(two.Problems, vmnetd.Check{Level: vmnetd.LevelFail, Name: "eno2", Text: "has a macvtap of vm1 on it", Do: "vmnetd detach vm1 --id net0"},
		vmnetd.Check{Level: vmnetd.LevelFail, Name: "a-long-name", Text: "NetworkManager holds it", Do: "nmcli device set a-long-name managed no"})
	conv := vmnetd.Conversion{From: "team0", To: "bond", Anchor: "wan", Config: "- name: team0\n  bond:\n    mode: active-backup\n", Differs: []string{"sticky of eno2: a bond has primary_reselect for all ports together"}}
	bare := conv
	bare.Anchor, bare.Differs = "", nil
	for name, s := range map[string]struct {
		f    *fake
		args string
	}{
		"plan-first":     {&fake{plan: firstPlan()}, "uplink plan"},
		"plan-live":      {&fake{plan: live}, "uplink plan"},
		"plan-problems":  {&fake{plan: two}, "uplink plan"},
		"plan-nothing":   {&fake{plan: vmnetd.Plan{From: "/etc/vmnetd"}}, "uplink plan"},
		"plan-waits":     {&fake{plan: waits}, "uplink plan"},
		"uplink-list":    {&fake{uplinks: append(silentHost(), lacpBond(), lacpTeam())}, "uplink list"},
		"uplink-show":    {&fake{uplinks: silentHost()}, "uplink show wan"},
		"uplink-bond":    {&fake{uplinks: []vmnetd.UplinkState{lacpBond()}}, "uplink show bond0"},
		"team-state":     {&fake{uplinks: silentHost()}, "team state team0"},
		"team-lacp":      {&fake{uplinks: []vmnetd.UplinkState{lacpTeam()}}, "team state team1"},
		"bond-state":     {&fake{uplinks: []vmnetd.UplinkState{lacpBond()}}, "bond state bond0"},
		"convert":        {&fake{converted: conv}, "convert team2bond team0"},
		"convert-bare":   {&fake{converted: bare}, "convert team2bond team0"},
		"team-config":    {&fake{answer: `{"runner":{"name":"lacp"}}`}, "team config team0"},
		"show-l3":        {&fake{nics: []vmnetd.Attachment{routedGuest()}, counters: someCounters()}, "show vm1/net0"},
		"show-endpoint":  {&fake{nics: []vmnetd.Attachment{endpoint()}}, "show c1/net0"},
		"host-links":     {&fake{links: []vmnetd.HostLink{lanLink(), brokenLink()}}, "host-link"},
		"team-item-json": {&fake{answer: "eno1\n"}, "team get team0 runner.active_port --json"},
	} {
		got := do(t, s.f, strings.Fields(s.args)...)
		if got.code != 0 || got.err != "" {
			t.Errorf("%s: %+v", name, got)
		}
		golden(t, "screen/"+name+".txt", got.out)
		for _, line := range strings.Split(got.out, "\n") {
			if cells.StringWidth(line) > 80 {
				t.Errorf("%s: a line of %d columns: %s", name, cells.StringWidth(line), line)
			}
		}
	}
}

func TestAPlanFitsANarrowTerminalAndEscapesNames(t *testing.T) {
	p := firstPlan()
	p.Changes[1].Name = "w\x1b[2Jn"
	var out, err bytes.Buffer
	a := testApp(&fake{plan: p}, &out, &err)
	a.io.width = 50
	if code := a.run(t.Context(), []string{"uplink", "plan"}); code != 0 {
		t.Fatal(err.String())
	}
	if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), `w\x1b[2Jn`) {
		t.Errorf("%q", out.String())
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if cells.StringWidth(line) > 50 {
			t.Errorf("%d columns: %s", cells.StringWidth(line), line)
		}
	}
}
