package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const hostIP = "10.99.0.18"

// hostReaches says whether this host and a guest reach each other by the link.
func (s *speaker) hostReaches(link, want bool) error {
	from := []string{"ping", "-q", "-c", "1", "-w", map[bool]string{true: "10", false: "1"}[want]}
	if link {
		from = append(from, "-I", hostIP)
	}
	ip, _, _ := strings.Cut(speakerIPs[0], "/")
	ctx := s.b.t.Context()
	out, err := s.b.host.Command(ctx, from[0], append(from[1:], ip)...).CombinedOutput()
	if (err == nil) != want {
		return fmt.Errorf("host reaches the guest: %v, want %v: %s", err == nil, want, out)
	}
	return s.pings(hostIP, want)
}

// links is what `host-link` lists.
func (b *bed) hostLinks() []vmnetd.HostLink {
	b.t.Helper()
	return parse[[]vmnetd.HostLink](b.t, b.must(0, "host-link", "--json").out)
}

func TestAHostLinkOpensTheHostToItsGuestsAndIsKept(t *testing.T) {
	t.Parallel()
	for _, overlapping := range []bool{false, true} {
		t.Run(fmt.Sprintf("overlapping %v", overlapping), func(t *testing.T) {
			t.Parallel()
			b := newModesBed(t, modesConfig)
			if overlapping {
				b.inside(b.host, "ip", "address", "add", onUplink4+"/24", "dev", "u0")
			}
			b.start()
			s := b.tapSpeaker("vm1", "o0", append(given, "--network", "lan")...)
			before := b.routes(b.host)
			if err := s.pings(onUplink4, false); err != nil {
				t.Errorf("without a link: %v", err)
			}
			r := b.must(0, "host-link", "lan", "--ip", hostIP+"/24")
			if !strings.Contains(r.out, "this host reaches guests of lan by") {
				t.Errorf("says %q", r.out)
			}
			if r := b.must(0, "host-link", "lan", "--ip", hostIP+"/24"); !strings.Contains(r.out, "already so") {
				t.Errorf("the second time: %q", r.out)
			}
			link := b.hostLinks()[0]
			if link.Network != "lan" || link.Uplink != "u0" || link.Kind != vmnetd.Macvlan || !slices.Equal(link.IPs, []string{hostIP + "/24"}) || !slices.Contains(link.Guests, "10.99.0.7") || link.Problem != "" {
				t.Errorf("%+v", link)
			}
			index := b.host.Link(t, link.Ifname).Index
			b.eventually("host and guest", 5*time.Second, func() error { return s.hostReaches(true, true) })
			b.eventually("by the host's own choice of source", 5*time.Second, func() error { return s.hostReaches(false, true) })
			for _, ip := range []string{outside4, onUplink4} {
				if ip == onUplink4 && !overlapping {
					continue
				}
				b.inside(b.host, "ping", "-q", "-c", "1", "-W", "10", ip)
			}
			if r := b.must(0, "explain", "other", "--network", "lan"); !strings.Contains(strings.Join(strings.Fields(r.out), " "), "by this host's link to network lan") {
				t.Errorf("explain:\n%s", r.out)
			}

			b.kill()
			if now := b.host.Link(t, link.Ifname); now.Index != index || !now.Up {
				t.Errorf("while the daemon is dead: %+v", now)
			}
			b.start()
			if now := b.host.Link(t, link.Ifname); now.Index != index {
				t.Errorf("after kill -9 it is another one: %+v", now)
			}
			if err := s.hostReaches(true, true); err != nil {
				t.Error(err)
			}

			b.host.Delete(t, link.Ifname) // by hand
			b.eventually("made again", 5*time.Second, func() error { return s.hostReaches(true, true) })

			if r := b.must(0, "host-link", "lan", "--remove"); !strings.Contains(r.out, "is removed") {
				t.Errorf("says %q", r.out)
			}
			if r := b.must(0, "host-link", "lan", "--remove"); !strings.Contains(r.out, "already so") {
				t.Errorf("the second time: %q", r.out)
			}
			if left := b.links(b.host); slices.Contains(left, link.Ifname) || len(b.hostLinks()) != 0 {
				t.Errorf("left: %v, %+v", left, b.hostLinks())
			}
			if after := b.routes(b.host); after != before {
				t.Errorf("routes and rules are\n%s\nthey were\n%s", after, before)
			}
			b.stop()
		})
	}
}

// routes is what decides where a namespace's packets go.
func (b *bed) routes(ns *testkit.Netns) string {
	b.t.Helper()
	return b.inside(ns, "ip", "rule") + b.inside(ns, "ip", "-4", "route", "show", "table", "all") + b.inside(ns, "ip", "-6", "rule")
}

func TestAnAddressThatTheUplinkGetsAfterAHostLinkDecidesTheHostsRoute(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	b.start()
	b.must(0, "host-link", "lan", "--ip", hostIP+"/24")
	link := b.hostLinks()[0].Ifname
	goesBy := func(dev string) {
		t.Helper()
		b.eventually("the host's traffic goes by "+dev, 5*time.Second, func() error {
			if out := b.inside(b.host, "ip", "route", "get", outside4); !strings.Contains(out, " dev "+dev+" ") {
				return errors.New(out)
			}
			return nil
		})
	}
	goesBy(link)
	b.inside(b.host, "ip", "address", "add", onUplink4+"/24", "dev", "u0")
	goesBy("u0")
	b.inside(b.host, "ping", "-q", "-c", "1", "-W", "10", outside4)
	b.inside(b.host, "ping", "-q", "-c", "1", "-W", "10", "-I", hostIP, outside4)
	b.inside(b.host, "ip", "address", "del", onUplink4+"/24", "dev", "u0")
	goesBy(link)
	b.must(0, "host-link", "lan", "--remove")
	b.stop()
}

func TestAHostLinkIsThereAfterAReboot(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	b.start()
	b.must(0, "host-link", "lan", "--ip", hostIP+"/24")
	link := b.hostLinks()[0]
	b.stop()
	b.host.Delete(t, link.Ifname)
	if err := errors.Join(os.RemoveAll(b.path("state")), os.Mkdir(b.path("state"), 0o700)); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.eventually("made again", 5*time.Second, func() error {
		now := b.hostLinks()
		if len(now) != 1 || now[0].Ifname != link.Ifname || now[0].MAC != link.MAC || now[0].Problem != "" {
			return fmt.Errorf("%+v, it was %+v", now, link)
		}
		if !slices.Contains(b.links(b.host), link.Ifname) {
			return fmt.Errorf("there are %v", b.links(b.host))
		}
		return nil
	})
	b.inside(b.host, "ping", "-q", "-c", "1", "-W", "10", "-I", hostIP, outside4)
	b.must(0, "host-link", "lan", "--remove")
	b.stop()
}

func TestAHostLinkThatCannotBeIsRefusedInOneSentence(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	b.ejectingVM("vm1")
	b.start()
	b.attach("vm1", "--network", "lan", "--ip", "10.99.0.7")
	before := b.asItIs(b.host)
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{4, "no network", []string{"nonet", "--ip", hostIP + "/24"}},
		{4, "no network", []string{"nonet", "--remove"}},
		{2, "address of its own", []string{"lan"}},
		{2, "no length", []string{"lan", "--ip", hostIP}},
		{2, "no IP address", []string{"lan", "--ip", "10.99.0.300/24"}},
		{2, "none of network lan's", []string{"lan", "--ip", hostIP + "/24", "--uplink", "br0"}},
		{5, "vm1/net0's", []string{"lan", "--ip", "10.99.0.7/24"}},
		{2, "without a link", []string{"sw", "--ip", hostIP + "/24"}},
	} {
		b.oneSentence(b.must(c.code, append([]string{"host-link"}, c.args...)...), c.says)
	}
	b.same(before, b.host)
	b.must(0, "host-link", "lan", "--ip", hostIP+"/24")
	before = b.asItIs(b.host)
	b.oneSentence(b.must(5, "host-link", "lan", "--ip", "10.99.0.7/24"), "vm1/net0's")
	b.same(before, b.host)
	b.stop()
}
