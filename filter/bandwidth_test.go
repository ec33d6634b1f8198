package filter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestWhatTheNetdevSendsIsShapedLive(t *testing.T) {
	for hook, spec := range map[string]func(Rate) Spec{
		Egress:  func(r Rate) Spec { return Spec{Hook: Egress, Out: r} },
		Ingress: func(r Rate) Spec { return Spec{Hook: Ingress, In: r} },
	} {
		t.Run(hook, func(t *testing.T) {
			l := newLab(t)
			g := macvtap(t, l)
			for _, step := range []struct {
				rate Rate
				want string
			}{
				{Rate{Bits: 10_000_000}, "rate 10Mbit burst 15000b"},
				{Rate{Bits: 20_000_000, Burst: 40000}, "rate 20Mbit burst 40000b"},
				{Rate{Bits: 80_000_000_000}, "rate 80Gbit"},
				{Rate{}, ""},
			} {
				s := spec(step.rate)
				s.Ifname = g.ifname
				l.holds(t, s, false)
				l.set(t, s)
				l.holds(t, s, true)
				shown := l.ns.Run(t, "tc", "qdisc", "show", "dev", g.ifname)
				if !strings.Contains(shown, step.want) || strings.Contains(shown, "tbf") != (step.want != "") {
					t.Errorf("tc shows %q, want %q", shown, step.want)
				}
			}
		})
	}
}

// The burst leaves at once and the queue holds 50 ms: of a thousand frames sent
// at once most are dropped.
func TestWhatExceedsTheRateIsDropped(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	l.set(t, Spec{Ifname: g.ifname, Hook: g.hook, Out: Rate{Bits: 1_000_000}})
	began := time.Now()
	for range 1000 {
		g.send(ether(peerMAC, g.mac, 0x88b6, make([]byte, 1000)))
	}
	took := time.Since(began)
	shown := l.ns.Run(t, "tc", "-s", "qdisc", "show", "dev", g.ifname)
	_, rest, _ := strings.Cut(shown, "(dropped ")
	n := 0
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	if passed := 1000 - n; passed > 40+int(took.Seconds()*130) {
		t.Errorf("%d of 1000 passed within %v:\n%s", passed, took, shown)
	}
}

func TestTheLargestFrameOfADeviceFitsIntoEveryBurst(t *testing.T) {
	l := newLab(t)
	l.out.Set(t, "far0", rtnl.MTU(9000))
	l.ns.Set(t, "u0", rtnl.MTU(9000))
	g := macvtap(t, l)
	l.ns.Set(t, g.ifname, rtnl.MTU(9000))
	s := Spec{Ifname: g.ifname, Hook: g.hook, Out: Rate{Bits: 100_000_000, Burst: 1}}
	for way, set := range map[string]func() error{
		"Set":    func() error { return l.Set(ctx(), s) },
		"SetAll": func() error { return l.SetAll(ctx(), []Spec{s}) },
	} {
		if err := set(); err != nil {
			t.Fatal(err)
		}
		if !l.tells(t, g, ether(peerMAC, g.mac, 0x88b6, make([]byte, 9000)))[0] {
			t.Errorf("%s: a frame as large as the MTU was not heard", way)
		}
		l.holds(t, s, true)
		if lost := l.lost(t, []Spec{s}); len(lost) != 0 {
			t.Errorf("%s: lost at once", way)
		}
		l.set(t, Spec{Ifname: g.ifname, Hook: g.hook})
	}
}

func TestAForeignRootQdiscStays(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	l.ns.Run(t, "tc", "qdisc", "add", "dev", g.ifname, "root", "handle", "7:", "tbf", "rate", "5mbit", "burst", "20k", "latency", "50ms")
	l.set(t, g.strict())
	if shown := l.ns.Run(t, "tc", "qdisc", "show", "dev", g.ifname); !strings.Contains(shown, "tbf 7:") {
		t.Errorf("tc shows %q", shown)
	}
}

// Kernels are built without the action police; then it is said, and the device has
// no qdisc with half of a filter. Another one polices.
func TestAKernelThatCannotPoliceSaysSo(t *testing.T) {
	l := newLab(t)
	g := macvtap(t, l)
	err := l.Set(ctx(), Spec{Ifname: g.ifname, Hook: g.hook, In: Rate{Bits: 1_000_000}})
	if err != nil && !errors.Is(err, vmnetd.ErrUnsupported) {
		t.Errorf("it said %v", err)
	}
	shown := l.ns.Run(t, "tc", "filter", "show", "dev", g.ifname, "ingress")
	if polices := strings.Contains(shown, "police"); err != nil && shown != "" || polices != (err == nil) {
		t.Errorf("it said %v, and tc shows %q", err, shown)
	}
	l.set(t, Spec{Ifname: g.ifname, Hook: g.hook})
}

func TestVMWhatTheNetdevReceivesIsPoliced(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	g := tap(t, l)
	l.ns.Run(t, "tc", "qdisc", "add", "dev", g.ifname, "clsact")
	l.ns.Run(t, "tc", "filter", "add", "dev", g.ifname, "ingress", "pref", "10", "matchall", "action", "pass")
	l.ns.Run(t, "tc", "filter", "add", "dev", g.ifname, "egress", "pref", "10", "matchall", "action", "pass")
	for _, step := range []struct {
		rate Rate
		want string
	}{
		{Rate{Bits: 8_000_000, Burst: 100_000}, "rate 8Mbit"},
		{Rate{Bits: 16_000_000}, "rate 16Mbit"},
		{Rate{Bits: 80_000_000_000}, "rate 80Gbit"},
		{Rate{}, ""},
	} {
		s := Spec{Ifname: g.ifname, Hook: g.hook, Out: step.rate}
		l.holds(t, s, false)
		l.set(t, s)
		l.holds(t, s, true)
		shown := l.ns.Run(t, "tc", "filter", "show", "dev", g.ifname, "ingress")
		if !strings.Contains(shown, step.want) || strings.Count(shown, "police") > 1 || !strings.Contains(shown, "pref 10 ") {
			t.Errorf("%v: tc shows %s", step.rate, shown)
		}
	}
	if shown := l.ns.Run(t, "tc", "filter", "show", "dev", g.ifname, "egress"); !strings.Contains(shown, "pref 10 ") {
		t.Errorf("the filter of somebody else has gone: %s", shown)
	}
}

func TestVMWhatExceedsThePolicersRateIsDropped(t *testing.T) {
	testkit.Require(t, "vm")
	l := newLab(t)
	g := macvtap(t, l)
	// With In at egress's device: what comes for the guest is policed.
	l.set(t, Spec{Ifname: g.ifname, Hook: g.hook, In: Rate{Bits: 8000, Burst: 1}})
	fd := rawSocket(t, l.out, "far0")
	frame := ether(g.mac, peerMAC, 0x88b6, make([]byte, 1000))
	for range 200 {
		if _, err := unix.Write(fd, frame); err != nil {
			t.Fatal(err)
		}
	}
	shown := l.ns.Run(t, "tc", "-s", "filter", "show", "dev", g.ifname, "ingress")
	for deadline := time.Now().Add(testkit.Patience); !strings.Contains(shown, "dropped 1"); shown = l.ns.Run(t, "tc", "-s", "filter", "show", "dev", g.ifname, "ingress") {
		if time.Now().After(deadline) {
			t.Fatalf("of 200 frames of 1014 bytes none was beyond 65664 bytes: %s", shown)
		}
	}
}
