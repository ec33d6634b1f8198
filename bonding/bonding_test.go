package bonding

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestMain(m *testing.M) { testkit.LeakCheck(m) }

func TestMistakesAreNamedWithTheirPlace(t *testing.T) {
	for want, c := range map[string]Config{
		`mode: a bond's mode is balance-rr`:                                        {Mode: "802.3"},
		`lacp_rat: a bond has no option`:                                           {Mode: LACP, Options: map[string]string{"lacp_rat": "fast"}},
		`lacp_rate: mode active-backup has no option lacp_rate: it is for 802.3ad`: {Mode: ActiveBackup, Options: map[string]string{"lacp_rate": "fast"}},
		`lacp_rate: lacp_rate takes slow or fast, not "quick"`:                     {Mode: LACP, Options: map[string]string{"lacp_rate": "quick"}},
		`miimon: miimon takes 0 to 2147483647, not "-1"`:                           {Mode: LACP, Options: map[string]string{"miimon": "-1"}},
		`arp_interval: mode 802.3ad has no option arp_interval`:                    {Mode: LACP, Options: map[string]string{"arp_interval": "100"}},
		`arp_interval: a bond has either`:                                          {Mode: ActiveBackup, Options: map[string]string{"miimon": "100", "arp_interval": "100", "arp_ip_target": "192.0.2.1"}},
		`arp_interval: arp_interval needs an address`:                              {Mode: ActiveBackup, Options: map[string]string{"arp_interval": "100"}},
		`arp_ip_target: arp_ip_target takes IPv4 addresses, not "2001:db8::1"`:     {Mode: ActiveBackup, Options: map[string]string{"arp_ip_target": "2001:db8::1"}},
		`updelay: updelay needs miimon`:                                            {Mode: BalanceXOR, Options: map[string]string{"updelay": "100"}},
		`ports[1]: port eno1 is named twice`:                                       {Mode: LACP, Ports: []Port{{Name: "eno1"}, {Name: "eno1"}}},
		`ports[0].prio: mode 802.3ad has no option prio`:                           {Mode: LACP, Ports: []Port{{Name: "eno1", Options: map[string]string{"prio": "1"}}}},
		`primary: eno9 is not a port of this bond`:                                 {Mode: ActiveBackup, Options: map[string]string{"primary": "eno9"}, Ports: []Port{{Name: "eno1"}}},
		`ad_actor_system: ad_actor_system takes a MAC`:                             {Mode: LACP, Options: map[string]string{"ad_actor_system": "01:00:00:00:00:01"}},
	} {
		problems := c.Check()
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Key+": "+problems[0].Text, want) {
			t.Errorf("want %q, got %+v", want, problems)
		}
	}
}

func TestCanonicalIsWhatTheKernelWouldSay(t *testing.T) {
	c, err := Config{Mode: ActiveBackup, Options: map[string]string{
		"miimon": "0100", "num_unsol_na": "2", "use_carrier": "1", "arp_ip_target": "192.0.2.1 192.0.2.2", "fail_over_mac": "NONE",
	}, Ports: []Port{{Name: "eno1", Options: map[string]string{"prio": "-5"}}}}.Canonical()
	want := map[string]string{"miimon": "100", "num_grat_arp": "2", "use_carrier": "on", "arp_ip_target": "192.0.2.1,192.0.2.2", "fail_over_mac": "none"}
	if err != nil || fmt.Sprint(c.Options) != fmt.Sprint(want) || c.Ports[0].Options["prio"] != "-5" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := (Config{Mode: "x"}).Canonical(); err == nil {
		t.Error("an unknown mode is canonical")
	}
}

// flat writes attributes as the kernel sends them.
func flat(attrs []rtnl.Attr) []byte { return rtnl.Encode(attrs) }

func TestEveryOptionSurvivesTheWayThroughNetlink(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom(modeNames).Draw(t, "mode")
		options := map[string]string{"mode": mode}
		for _, o := range table {
			if o.in(mode) && o.Name != "mode" && rapid.Bool().Draw(t, o.Name+" given") {
				options[o.Name] = value(t, o)
			}
		}
		index := func(name string) (int, bool) { return map[string]int{"eno1": 3}[name], name == "eno1" }
		attrs, err := Attrs(options, index)
		if err != nil {
			t.Fatal(err)
		}
		got := Read(rtnl.Link{Data: flat(attrs)}, func(int) string { return "eno1" })
		for name, want := range options {
			if got[name] != want {
				t.Fatalf("%s is %q, want %q", name, got[name], want)
			}
		}
		if changes := Diff(got, options); len(changes) != 0 {
			t.Fatalf("%+v", changes)
		}
	})
}

func value(t *rapid.T, o Option) string {
	switch c := o.codec.(type) {
	case whole:
		if c.names != nil {
			return rapid.SampledFrom(c.names).Draw(t, o.Name)
		}
		return fmt.Sprint(rapid.Int64Range(c.min, c.max).Draw(t, o.Name))
	case addresses:
		if c == 4 {
			return "192.0.2.1,192.0.2.9"
		}
		return "2001:db8::1"
	case macAddress:
		return "02:00:00:00:00:07"
	}
	return "eno1"
}

func TestDiffIsMinimalAndSaysWhatItNeeds(t *testing.T) {
	is := map[string]string{"mode": ActiveBackup, "miimon": "0", "arp_interval": "100", "fail_over_mac": "none"}
	changes := Diff(is, map[string]string{"mode": ActiveBackup, "miimon": "50", "arp_interval": "0"})
	if len(changes) != 2 || changes[0].Option != "arp_interval" || changes[1].Option != "miimon" || NeedOf(changes) != Live {
		t.Errorf("%+v", changes)
	}
	if changes := Diff(is, map[string]string{"fail_over_mac": "active", "miimon": "1"}); NeedOf(changes) != NoPorts {
		t.Errorf("%+v", changes)
	}
	if changes := Diff(map[string]string{"mode": LACP, "lacp_rate": "slow"}, map[string]string{"lacp_rate": "fast"}); NeedOf(changes) != Down {
		t.Errorf("%+v", changes)
	}
}

func TestChurnIsReadFromTheKernelsText(t *testing.T) {
	got := churn("Bonding Mode: IEEE 802.3ad\n\nSlave Interface: eno1\nActor Churn State: none\nPartner Churn State: churned\n\nSlave Interface: eno2\nActor Churn State: monitoring\n")
	if got["eno1"] != (churns{"none", "churned"}) || got["eno2"].actor != "monitoring" {
		t.Errorf("%+v", got)
	}
}

// bench is a bond with two ports, each on a veth, whose far ends are elsewhere.
type host struct {
	ns, out *testkit.Netns
}

func newHost(t *testing.T) *host {
	t.Helper()
	testkit.Require(t, "vm")
	h := &host{ns: testkit.NewNetns(t), out: testkit.NewNetns(t)}
	for i := range 2 {
		testkit.NewVeth(t, h.ns, fmt.Sprintf("p%d", i), h.out, fmt.Sprintf("q%d", i))
	}
	return h
}

func (h *host) name(index int) string {
	l, err := h.ns.Conn().LinkByIndex(context.Background(), index)
	if err != nil {
		return err.Error()
	}
	return l.Name
}

func (h *host) index(name string) (int, bool) {
	l, err := h.ns.Conn().LinkByName(context.Background(), name)
	return l.Index, err == nil
}

func (h *host) make(t *testing.T, ns *testkit.Netns, name string, c Config) {
	t.Helper()
	data, err := Create(c)
	if err != nil {
		t.Fatal(err)
	}
	bond := ns.Create(t, rtnl.NewLink{Name: name, Kind: "bond", Data: data})
	for _, p := range c.Ports {
		if err := ns.Conn().SetUp(t.Context(), ns.Link(t, p.Name).Index, false); err != nil {
			t.Fatal(err)
		}
		ns.Set(t, p.Name, rtnl.Master(bond.Index))
	}
	ns.SetUp(t, name)
}

var twoPorts = []Port{{Name: "p0"}, {Name: "p1"}}

// example is a value of an option that is not its default.
func example(o Option) string {
	special := map[string]string{
		"miimon": "50", "updelay": "100", "downdelay": "100", "peer_notif_delay": "100", "num_grat_arp": "3", "min_links": "1", "lp_interval": "2",
		"packets_per_slave": "2", "ad_actor_sys_prio": "7", "ad_user_port_key": "9", "resend_igmp": "2", "arp_interval": "100", "arp_missed_max": "4",
		"arp_ip_target": "192.0.2.1,192.0.2.2", "ns_ip6_target": "2001:db8::1", "ad_actor_system": "02:00:00:00:00:07", "primary": "p1", "active_slave": "p1",
		"use_carrier": "on", "tlb_dynamic_lb": "off", "lacp_active": "off",
	}
	if text, ok := special[o.Name]; ok {
		return text
	}
	if w, ok := o.codec.(whole); ok && w.names != nil {
		return w.names[1]
	}
	return "1"
}

// alone are options that need another one first, or exclude one.
var alone = []string{"arp_interval", "arp_validate", "arp_ip_target", "ns_ip6_target"}

func TestVMEveryModeIsMadeWithItsOptionsAndReadBack(t *testing.T) {
	for _, mode := range modeNames {
		t.Run(mode, func(t *testing.T) {
			h := newHost(t)
			c := Config{Mode: mode, Options: map[string]string{}, Ports: twoPorts}
			for _, o := range table {
				if o.in(mode) && o.Name != "mode" && !o.Late && !slices.Contains(alone, o.Name) {
					c.Options[o.Name] = example(o)
				}
			}
			h.make(t, h.ns, "b0", c)
			got := Read(h.ns.Link(t, "b0"), h.name)
			if changes := Diff(got, c.Options); len(changes) != 0 {
				t.Errorf("read back: %+v", changes)
			}
			delete(got, "active_slave") // state, which may come between both looks
			h.sameAsIP(t, got)
		})
	}
}

// sameAsIP holds what was read against what ip(8) prints.
func (h *host) sameAsIP(t *testing.T, got map[string]string) {
	t.Helper()
	out, err := h.ns.Command(t.Context(), "ip", "-d", "-j", "link", "show", "b0").Output()
	if err != nil {
		t.Fatal(err)
	}
	var links []struct {
		Linkinfo struct {
			Data map[string]any `json:"info_data"`
		} `json:"linkinfo"`
	}
	if err := json.Unmarshal(out, &links); err != nil {
		t.Fatal(err)
	}
	theirs := map[string]string{ // ip's name for an option, where it is another one
		"num_grat_arp": "num_peer_notif", "all_slaves_active": "all_slaves_active", "lacp_rate": "ad_lacp_rate", "lacp_active": "ad_lacp_active", "peer_notif_delay": "peer_notify_delay",
	}
	compared := 0
	for name, value := range got {
		ip := name
		if other, ok := theirs[name]; ok {
			ip = other
		}
		shown, ok := links[0].Linkinfo.Data[ip]
		if !ok {
			continue
		}
		compared++
		text := fmt.Sprint(shown)
		if text != value && (text != "0" || value != "off") && (text != "1" || value != "on") && text != "<nil>" {
			t.Errorf("%s: read %q, ip shows %v", name, value, shown)
		}
	}
	if compared < 10 {
		t.Errorf("only %d options could be compared with %s", compared, out)
	}
}

// TestVMTheTableSaysWhatAChangeNeeds changes every option of every mode while
// the bond is up with ports in: the kernel takes exactly those that the table
// calls live.
func TestVMTheTableSaysWhatAChangeNeeds(t *testing.T) {
	for _, mode := range modeNames {
		t.Run(mode, func(t *testing.T) {
			h := newHost(t)
			h.make(t, h.ns, "b0", Config{Mode: mode, Options: map[string]string{"miimon": "100"}, Ports: twoPorts})
			bond := h.ns.Link(t, "b0").Index
			for _, o := range Options() {
				if !o.in(mode) || o.Name == "mode" {
					continue
				}
				attrs, err := Attrs(map[string]string{o.Name: example(o)}, h.index)
				if err != nil {
					t.Fatal(err)
				}
				err = h.ns.Conn().Set(t.Context(), rtnl.Change{Index: bond, Attrs: []rtnl.Attr{rtnl.Info("bond", attrs)}})
				if live := err == nil; live != (o.Need == Live) {
					t.Errorf("%s: %v, the table says %s", o.Name, err, o.Need)
				}
				if got := Read(h.ns.Link(t, "b0"), h.name)[o.Name]; err == nil && got != example(o) && o.Name != "active_slave" {
					t.Errorf("%s is %q after it was set to %q", o.Name, got, example(o))
				}
			}
		})
	}
}

func TestVMActivePortAndFailuresAreTold(t *testing.T) {
	h := newHost(t)
	h.make(t, h.ns, "b0", Config{Mode: ActiveBackup, Options: map[string]string{"miimon": "10"}, Ports: twoPorts})
	status := func() (s string) {
		b := Status(h.ns.Link(t, "b0"), []rtnl.Link{h.ns.Link(t, "p0"), h.ns.Link(t, "p1")}, "", h.name)
		return fmt.Sprint(b.ActivePort, " ", b.Ports[0].State, " ", b.Ports[0].MII, " ", b.Ports[0].LinkFailures)
	}
	await(t, "p0 is active", func() bool {
		return status() == "p0 active up 0" && Active(h.ns.Link(t, "b0")) == h.ns.Link(t, "p0").Index
	})
	if err := h.out.Conn().SetUp(t.Context(), h.out.Link(t, "q0").Index, false); err != nil {
		t.Fatal(err)
	}
	await(t, "p1 is active", func() bool { return status() == "p1 backup down 1" })
}

func TestVMLACPPartnerIsShownInWords(t *testing.T) {
	h := newHost(t)
	fast := map[string]string{"miimon": "10", "lacp_rate": "fast"}
	h.make(t, h.ns, "b0", Config{Mode: LACP, Options: fast, Ports: twoPorts})
	h.make(t, h.out, "sw", Config{Mode: LACP, Options: fast, Ports: []Port{{Name: "q0"}, {Name: "q1"}}})
	sw := h.out.Link(t, "sw").MAC.String()
	var last string
	await(t, "both ports distribute", func() bool {
		proc := ""
		if out, err := h.ns.Command(t.Context(), "cat", "/proc/net/bonding/b0").Output(); err == nil {
			proc = string(out)
		}
		s := Status(h.ns.Link(t, "b0"), []rtnl.Link{h.ns.Link(t, "p0"), h.ns.Link(t, "p1")}, proc, h.name)
		last = fmt.Sprintf("%+v %+v", s.Aggregator, s.Ports)
		ok := s.Aggregator != nil && s.Aggregator.PartnerMAC == sw && s.Aggregator.Ports == 2
		for _, p := range s.Ports {
			ok = ok && slices.Contains(p.Actor, "distributing") && slices.Contains(p.Partner, "distributing") && slices.Contains(p.Actor, "short timeout") && p.ActorChurn != "" && p.Aggregator == s.Aggregator.ID
		}
		return ok
	})
	t.Log(last)
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testkit.Patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", testkit.Patience, what)
		}
	}
}
