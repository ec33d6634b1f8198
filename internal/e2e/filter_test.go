package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// given asks for the speakers' addresses.
var given = []string{"--ip", "10.99.0.7", "--ip", "fd99::7"}

// honest checks that a speaker's own traffic goes both ways.
func (s *speaker) honest() {
	s.b.t.Helper()
	for _, ip := range []string{outside4, outside6} {
		if err := s.pings(ip, true); err != nil {
			s.b.t.Errorf("honest traffic: %v\n%s", err, s.b.run("show", s.att.FullName()).out)
		}
	}
}

func TestNothingThatAGuestForgesLeavesItsDevice(t *testing.T) {
	t.Parallel()
	eachSpeaker(t, modesConfig, func(t *testing.T, b *bed, begin func(string, ...string) *speaker) {
		s := begin("vm1", given...)
		s.honest()
		for name := range s.leaves(tricks(s.mac, speaker4, speaker6)) {
			t.Errorf("%s was heard outside", name)
		}
		s.honest()
		counters := b.counted("vm1/net0")
		for _, rule := range []string{"source MAC", "ARP sender", "IPv4 source", "IPv6 source", "router advertisement", "DHCP server", "DHCPv6 server", "VLAN tag"} {
			if c := counters[rule]; !c.Dropped || c.Packets == 0 || c.Bytes == 0 {
				t.Errorf("rule %q has counted %+v", rule, c)
			}
		}
		if r := b.must(0, "show", "vm1/net0"); !strings.Contains(r.out, "FILTER") || !strings.Contains(r.out, "router advertisement") {
			t.Errorf("show:\n%s", r.out)
		}
		want := fmt.Sprintf(`vmnetd_filter_packets_total{vm="vm1",id="net0",rule="source MAC",verdict="dropped"} %d`, counters["source MAC"].Packets)
		if r := b.must(0, "metrics"); !strings.Contains(r.out, want) {
			t.Errorf("metrics lacks %s:\n%s", want, r.out)
		}
	})
}

// Each trick is one that works.
func TestWithoutAFilterEveryForgedFrameLeaves(t *testing.T) {
	t.Parallel()
	open := strings.Replace(modesConfig, "modes: [bridge, private, vepa]}", "modes: [bridge], filter: {spoof: allow, dhcp_server: allow, ra: allow}}", 1)
	b := newModesBed(t, open)
	b.start()
	s := b.tapSpeaker("vm1", "o0", "--network", "lan", "--ip", "10.99.0.7")
	all := tricks(s.mac, speaker4, speaker6)
	heard := s.leaves(all)
	for _, k := range all {
		if !heard[k.name] {
			t.Errorf("%s does not come out even without a filter: it proves nothing", k.name)
		}
	}
	if r := b.ruleset(b.host); strings.Contains(r, s.att.Ifname) {
		t.Errorf("there is a filter:\n%s", r)
	}
	b.stop()
}

func TestARulesExtraIsWhatAGuestMaySendBesides(t *testing.T) {
	t.Parallel()
	eachSpeaker(t, modesConfig, func(t *testing.T, _ *bed, begin func(string, ...string) *speaker) {
		s := begin("vrrp1", given...)
		shared := parseMAC(t, "00:00:5e:00:01:07")
		virtual := testkit.FrameGuestMAC(3)
		ip := mustAddr("10.99.0.250")
		heard := s.leaves([]trick{
			{"virtual router", udp4(somebodyMAC, shared, ip, somebody4, 5000, 5000, []byte("virtual"))},
			{"its ARP", arpFrame(shared, 1, shared, ip, ip)},
			{"another's address by the virtual MAC", udp4(somebodyMAC, shared, stranger4, somebody4, 5000, 5000, []byte("stranger"))},
			{"another MAC", udp4(somebodyMAC, virtual, ip, somebody4, 5000, 5000, []byte("another"))},
		})
		if len(heard) != 2 || !heard["virtual router"] || !heard["its ARP"] {
			t.Errorf("heard outside: %v", heard)
		}
	})
}

func TestWithoutAKnownAddressTheMACAloneIsPinnedAndExplainSaysSo(t *testing.T) {
	t.Parallel()
	eachSpeaker(t, modesConfig, func(t *testing.T, b *bed, begin func(string, ...string) *speaker) {
		s := begin("vm1")
		s.honest()
		heard := s.leaves(tricks(s.mac, speaker4, speaker6))
		for name, want := range map[string]bool{
			"another MAC": false, "ARP that names another MAC": false, "RA": false, "answer of a DHCP server": false, "BPDU": false,
			"another IPv4 source": true, "ARP of another's address": true,
		} {
			if heard[name] != want {
				t.Errorf("%s left: %v, want %v", name, heard[name], want)
			}
		}
		network := s.att.Network
		r := b.must(0, "explain", "other", "--network", network)
		if text := strings.Join(strings.Fields(r.out), " "); !strings.Contains(text, "no IP known, so IP and ARP are not checked") {
			t.Errorf("explain:\n%s", r.out)
		}
	})
}

// whoIsForeign makes tables of others beside ours.
func (b *bed) foreignTables() string {
	b.t.Helper()
	b.inside(b.host, "nft", "add table inet theirs; add chain inet theirs in { type filter hook input priority 0; }; add rule inet theirs in tcp dport 22 counter accept; "+
		"add table netdev theirs; add chain netdev theirs u { type filter hook ingress device u0 priority 0; }; add set netdev theirs s { type ether_addr; }")
	return b.theirs()
}

func (b *bed) theirs() string {
	b.t.Helper()
	return b.inside(b.host, "nft", "--stateless", "list", "table", "inet", "theirs") + b.inside(b.host, "nft", "--stateless", "list", "table", "netdev", "theirs")
}

func TestAFlushedRulesetIsBack(t *testing.T) {
	t.Parallel()
	eachSpeaker(t, modesConfig, func(t *testing.T, b *bed, begin func(string, ...string) *speaker) {
		s := begin("vm1", given...)
		before := b.ruleset(b.host)
		if !strings.Contains(before, s.att.Ifname) {
			t.Fatalf("no filter:\n%s", before)
		}
		for _, how := range []string{"flush ruleset", "delete table netdev vmnetd", "flush chain netdev vmnetd " + s.att.Ifname} {
			removed := time.Now()
			b.inside(b.host, "nft", how)
			b.eventually(how+" is repaired", testkit.Patience, func() error {
				if now := b.ruleset(b.host); now != before {
					return fmt.Errorf("now:\n%s\nbefore:\n%s", now, before)
				}
				return nil
			})
			b.told(removed, "filter-restored", "vm1", "net0")
		}
		for name := range s.leaves(tricks(s.mac, speaker4, speaker6)) {
			t.Errorf("%s was heard outside", name)
		}
		s.honest()
	})
}

func TestTablesOfOthersStayAsTheyAre(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	theirs := b.foreignTables()
	b.start()
	b.tapSpeaker("vm1", "o0", append(given, "--network", "lan")...)
	b.inside(b.host, "nft", "delete", "table", "netdev", "vmnetd")
	b.told(time.Time{}, "filter-restored", "vm1", "net0")
	b.kill()
	b.start()
	if now := b.theirs(); now != theirs {
		t.Errorf("their tables are\n%s\nthey were\n%s", now, theirs)
	}
	b.stop()
}

// liar sends forged and honest frames by turns until it is stopped; it says how
// many of each were heard.
type liar struct {
	stop  chan struct{}
	done  chan struct{}
	heard map[string]bool
	good  atomic.Int32
	gap   time.Duration // the longest time without an honest frame
}

func (s *speaker) lies() *liar {
	l := &liar{stop: make(chan struct{}), done: make(chan struct{}), heard: map[string]bool{}}
	ear := s.b.outside.Sniff(s.b.t, s.port)
	all := tricks(s.mac, speaker4, speaker6)
	go func() {
		defer close(l.done)
		last := time.Now()
		for i := 0; ; i++ {
			select {
			case <-l.stop:
				return
			default:
			}
			s.send(all[i%len(all)].frame)
			s.send(s.marker(i))
			for {
				f, ok := ear.Next(s.b.t, time.Millisecond)
				if !ok {
					break
				}
				for _, k := range all {
					if string(f.Bytes) == string(k.frame) {
						l.heard[k.name] = true
					}
				}
				if strings.Contains(string(f.Bytes), "marker") {
					l.good.Add(1)
					l.gap, last = max(l.gap, time.Since(last)), time.Now()
				}
			}
		}
	}()
	return l
}

// end waits for as many honest frames as prove something.
func (l *liar) end(t *testing.T) {
	t.Helper()
	for until := time.Now().Add(testkit.Patience); l.good.Load() < 50 && time.Now().Before(until); {
		time.Sleep(time.Millisecond) // between two looks; the limit above decides
	}
	close(l.stop)
	<-l.done
	for name := range l.heard {
		t.Errorf("%s was heard outside", name)
	}
	if l.good.Load() < 50 {
		t.Errorf("only %d honest frames were heard: it proves nothing", l.good.Load())
	}
	t.Logf("%d honest frames, %s without one at most", l.good.Load(), l.gap.Round(time.Millisecond))
}

func TestTheFilterStaysWhileVmnetdIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	eachSpeaker(t, modesConfig, func(t *testing.T, b *bed, begin func(string, ...string) *speaker) {
		s := begin("vm1", given...)
		before := b.ruleset(b.host)
		s.leaves(tricks(s.mac, speaker4, speaker6))
		counted := b.counted("vm1/net0")["source MAC"].Packets
		l := s.lies()
		b.kill()
		b.start()
		b.stop()
		b.start()
		l.end(t)
		if now := b.ruleset(b.host); now != before {
			t.Errorf("the filter is\n%s\nit was\n%s", now, before)
		}
		if now := b.counted("vm1/net0")["source MAC"].Packets; now <= counted {
			t.Errorf("the counters began anew: %d, they were at %d", now, counted)
		}
		s.honest()
	})
}

func TestDetachLeavesNothingOfTheFilter(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	c := b.container("c1")
	b.start()
	for _, args := range [][]string{
		{"vm1", "--network", "lan", "--ip", "10.99.0.11"}, {"vm2", "--network", "sw", "--ip", "10.99.0.12"},
		{"c1", "--via", "netns:" + c.path, "--network", "sw", "--ip", "10.99.0.13/24"},
	} {
		att := b.attach(args...)
		if r := b.ruleset(b.host); !strings.Contains(r, att.Ifname) {
			t.Errorf("%v: there is no filter:\n%s", args, r)
		}
		b.must(0, "detach", args[0])
		if r := b.ruleset(b.host); strings.Contains(r, att.Ifname) || strings.Contains(r, "set ") {
			t.Errorf("%v: after detach there is still\n%s", args, r)
		}
	}
	b.nothing()
	b.stop()
}

func TestFiltersOfDevicesThatHaveGoneAreSweptAtTheStart(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	vm := b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	gone, stays := b.attach("vm1", "--network", "lan", "--ip", "10.99.0.11"), b.attach("vm2", "--network", "sw", "--ip", "10.99.0.12")
	b.kill()
	if err := os.Remove(b.path("state/state.json")); err != nil {
		t.Fatal(err)
	}
	vm.Kill()
	b.start()
	b.eventually("swept", 10*time.Second, func() error {
		r := b.ruleset(b.host)
		if strings.Contains(r, gone.Ifname) || !strings.Contains(r, stays.Ifname) {
			return fmt.Errorf("%s is to be gone, %s to stay:\n%s", gone.Ifname, stays.Ifname, r)
		}
		return nil
	})
	if list := b.list(); len(list) != 1 || list[0].VM != "vm2" || list[0].Phase != vmnetd.Attached {
		t.Errorf("%+v", list)
	}
	b.must(0, "detach", "vm2")
	b.nothing()
	if r := b.ruleset(b.host); strings.Contains(r, stays.Ifname) {
		t.Errorf("after detach:\n%s", r)
	}
	b.stop()
}

// This kernel polices nothing (act_police): a NIC is given the direction that is
// shaped.
func TestReloadChangesFilterAndBandwidthOfARunningNICAndKeepsItsCounters(t *testing.T) {
	t.Parallel()
	eachSpeaker(t, modesConfig, func(t *testing.T, b *bed, begin func(string, ...string) *speaker) {
		s := begin("vm1", given...)
		s.leaves(tricks(s.mac, speaker4, speaker6))
		counted := b.counted("vm1/net0")["source MAC"].Packets
		for _, c := range []struct{ more, rate, leaves string }{
			{", filter: {ra: allow}, bandwidth: {" + s.shaped() + ": 8M}", "8Mbit", "RA"},
			{", filter: {dhcp_server: allow}, bandwidth: {" + s.shaped() + ": 2M}", "2Mbit", "answer of a DHCP server, answer of a DHCPv6 server"},
			{"", "", ""},
		} {
			b.config(strings.ReplaceAll(modesConfig, `{vm: "*", networks: [lan, sw]`, `{vm: "*", networks: [lan, sw]`+c.more))
			b.must(0, "reload")
			b.eventually("the bandwidth is in force", 10*time.Second, func() error { return s.hasRate(c.rate) })
			heard := strings.Join(slices.Sorted(maps.Keys(s.leaves(tricks(s.mac, speaker4, speaker6)))), ", ")
			if heard != c.leaves {
				t.Errorf("with %q, heard outside: %s; want %s", c.more, heard, c.leaves)
			}
			counted++
			if now := b.counted("vm1/net0")["source MAC"].Packets; now != counted {
				t.Errorf("with %q, %d were dropped for their source MAC, want %d", c.more, now, counted)
			}
			if now := b.list("vm1"); len(now) != 1 || now[0].Ifindex != s.att.Ifindex || now[0].Problem != "" {
				t.Errorf("%+v", now)
			}
		}
		s.honest()
	})
}
