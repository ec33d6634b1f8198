package tapdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

func TestEveryModeIsMadeAsAskedAndReadBack(t *testing.T) {
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.VEPA, vmnetd.Private, vmnetd.Passthru} {
		t.Run(string(mode), func(t *testing.T) {
			l := newLab(t, nil)
			s := l.spec(1, mode)
			s.MTU, s.Queues = 1400, 2
			dev := l.ensure(t, s)

			link := l.ns.Link(t, s.Ifname)
			link.Data = nil // Queues and Mode are what it says
			want := rtnl.Link{
				Index: dev.Ifindex, Name: s.Ifname, Kind: "macvtap", Lower: l.u0.Index, LowerHere: true, MAC: s.MAC, MTU: 1400,
				AllMulti: true, Inet6: true, AddrGenNone: true, Alias: "vmnetd:vm1/net0", Group: Group, Queues: 2, Mode: string(mode),
			}
			if got := fmt.Sprintf("%+v", link); got != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %s\nwant %+v", got, want)
			}
			// The kernel's own word, by another way than ours.
			err := l.ns.Do(func() error {
				for file, want := range map[string]string{"disable_ipv6": "1", "addr_gen_mode": "1"} {
					if got := read(t, "/proc/sys/net/ipv6/conf/"+s.Ifname+"/"+file); got != want {
						t.Errorf("%s is %s, want %s", file, got, want)
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if dev.Up || dev.VM != "vm1" || dev.ID != "net0" || dev.Rdev == 0 {
				t.Errorf("returned %+v", dev)
			}
			found, err := l.Find(t.Context(), s.Ifname)
			if err != nil || fmt.Sprint(found) != fmt.Sprint(dev) {
				t.Errorf("Find: %+v, %v; want %+v", found, err, dev)
			}
		})
	}
}

func TestSameRequestTwiceGivesTheSameDevice(t *testing.T) {
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.Passthru} {
		l := newLab(t, nil)
		_, dev := l.guest(t, l.spec(1, mode))
		again := l.ensure(t, l.spec(1, mode))
		dev.Up = true
		if fmt.Sprint(again) != fmt.Sprint(dev) {
			t.Errorf("%s: %+v, want %+v", mode, again, dev)
		}
	}
}

func TestDeviceWithOtherPropertiesIsBusyAndStaysAsItIs(t *testing.T) {
	l := newLab(t, nil)
	dev := l.ensure(t, l.spec(1, vmnetd.Bridge))
	change := map[string]func(*Spec){
		"queues":     func(s *Spec) { s.Queues = 4 },
		"mode":       func(s *Spec) { s.Mode = vmnetd.Private },
		"belongs to": func(s *Spec) { s.VM = "other" },
	}
	for says1, f := range change {
		s := l.spec(1, vmnetd.Bridge)
		f(&s)
		_, err := l.Ensure(t.Context(), s)
		says(t, err, vmnetd.ErrBusy, says1)
	}
	if now, err := l.Find(t.Context(), dev.Ifname); err != nil || fmt.Sprint(now) != fmt.Sprint(dev) {
		t.Errorf("the device is %+v, %v; was %+v", now, err, dev)
	}
}

func TestMACAndMTUThatSomebodyChangedArePutRight(t *testing.T) {
	for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.Passthru} {
		l := newLab(t, nil)
		s := l.spec(1, mode)
		s.MTU = 1500
		_, dev := l.guest(t, s)
		l.ns.Set(t, "u0", rtnl.MTU(1400)) // pulls the device down with it
		l.ns.Set(t, "u0", rtnl.MTU(1500))
		l.ns.Set(t, s.Ifname, rtnl.MAC(mac(99)))
		if now := l.ns.Link(t, s.Ifname); now.MTU != 1400 || now.MAC.String() != mac(99).String() {
			t.Fatalf("%s: nothing to put right: %+v", mode, now)
		}
		again := l.ensure(t, s)
		if again.Ifindex != dev.Ifindex || again.MTU != 1500 || again.MAC.String() != s.MAC.String() || !again.Up {
			t.Errorf("%s: %+v", mode, again)
		}
	}
}

func TestForeignDeviceOfThatNameIsNotTouched(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	for _, foreign := range []rtnl.NewLink{
		{Name: s.Ifname, Kind: "bridge", Group: Group},
		{Name: s.Ifname, Kind: "macvtap", Lower: l.u0.Index, MAC: s.MAC},
	} {
		made := l.ns.Create(t, foreign)
		_, err := l.Ensure(t.Context(), s)
		says(t, err, vmnetd.ErrBusy, s.Ifname, "not ours")
		if now := l.ns.Link(t, s.Ifname); now.Index != made.Index || now.AllMulti {
			t.Errorf("%s was changed: %+v", foreign.Kind, now)
		}
		if _, err := l.Find(t.Context(), s.Ifname); !errors.Is(err, vmnetd.ErrNotFound) {
			t.Errorf("Find takes a foreign device: %v", err)
		}
		l.ns.Delete(t, s.Ifname)
	}
}

func TestAlternativeNameIsNotTakenForTheName(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	ip(t, l.ns, "link", "property", "add", "dev", "u0", "altname", s.Ifname)
	_, err := l.Ensure(t.Context(), s)
	says(t, err, vmnetd.ErrBusy, s.Ifname, "not ours")
}

func TestHalfMadeDeviceIsMadeAnew(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	half := l.ns.Create(t, macvtap(s)) // what a kill between create and mark leaves
	ours, err := l.Ours(t.Context())
	if err != nil || len(ours) != 1 || !ours[0].halfMade() || ours[0].Ifname != s.Ifname {
		t.Fatalf("Ours: %+v, %v", ours, err)
	}
	dev := l.ensure(t, s)
	if dev.Ifindex == half.Index {
		t.Error("the half-made device was taken")
	}
}

func TestHalfMadeDeviceThatSomebodyHoldsIsBusy(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	l.ns.Create(t, macvtap(s))
	ours, err := l.Ours(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.open(t, ours[0])
	_, err = l.Ensure(t.Context(), s)
	says(t, err, vmnetd.ErrBusy, fmt.Sprintf("process %d", os.Getpid()))
}

func TestNothingIsLeftWhenAStepFails(t *testing.T) {
	for _, p := range []failpoint.Point{failpoint.TapCreated, failpoint.TapMarked} {
		for _, mode := range []vmnetd.Mode{vmnetd.Bridge, vmnetd.Passthru} {
			l := newLab(t, parse(t, string(p)+"=error"))
			if _, err := l.Ensure(t.Context(), l.spec(1, mode)); err == nil {
				t.Fatalf("%s did not fail", p)
			}
			if left := l.devices(t); len(left) > 0 {
				t.Errorf("%s, %s: left %v", p, mode, left)
			}
			if now := l.ns.Link(t, "u0"); now.MAC.String() != l.u0.MAC.String() {
				t.Errorf("%s, %s: the uplink's MAC is %s, was %s", p, mode, now.MAC, l.u0.MAC)
			}
		}
	}
}

func TestNothingIsLeftWhenTheCallerGivesUp(t *testing.T) {
	l := newLab(t, parse(t, string(failpoint.TapCreated)+"=delay(60)"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := l.Ensure(ctx, l.spec(1, vmnetd.Passthru)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	// Had the kernel been slower than the caller's patience, the device would
	// come late and go again by itself.
	waitFor(t, "nothing left", func() bool {
		return len(l.devices(t)) == 0 && l.ns.Link(t, "u0").MAC.String() == l.u0.MAC.String()
	})
}

func TestMTUTooSmallForIPv6IsNoObstacle(t *testing.T) {
	l := newLab(t, nil)
	s := l.spec(1, vmnetd.Bridge)
	s.MTU = 1000
	l.ensure(t, s)
	if now := l.ns.Link(t, s.Ifname); now.Inet6 || now.MTU != 1000 {
		t.Errorf("%+v", now)
	}
}

// TestPassthruFailingAfterItTookTheMACGivesItBack fails where the MAC of the
// uplink was changed already: no character device is found any more.
func TestPassthruFailingAfterItTookTheMACGivesItBack(t *testing.T) {
	l := newLab(t, nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.sysfs.fd = 1 << 20 // a descriptor that is not open
	_, err := l.Ensure(t.Context(), l.spec(1, vmnetd.Passthru))
	l.sysfs.fd = -1
	says(t, err, vmnetd.ErrFailed, "character device")
	if now := l.ns.Link(t, "u0"); now.MAC.String() != l.u0.MAC.String() {
		t.Errorf("the uplink's MAC is %s, was %s", now.MAC, l.u0.MAC)
	}
	if left := l.devices(t); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestKilledMakerLeavesWhatTheNextOneCompletes kills a process between two
// steps and runs the same request again.
func TestKilledMakerLeavesWhatTheNextOneCompletes(t *testing.T) {
	if path := os.Getenv("TAPDEV_TEST_NETNS"); path != "" {
		makeAndDie(t, path)
		return
	}
	for _, p := range []failpoint.Point{failpoint.TapCreated, failpoint.TapMarked} {
		for mode, lower := range map[vmnetd.Mode]string{vmnetd.Bridge: "u0", vmnetd.Passthru: "u0", vmnetd.Switched: "br0"} {
			l := newLab(t, nil)
			l.ns.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledMakerLeavesWhatTheNextOneCompletes$")
			cmd.Env = append(os.Environ(), "TAPDEV_TEST_NETNS="+l.ns.Path(), "TAPDEV_TEST_MODE="+string(mode), "TAPDEV_TEST_LOWER="+lower, failpoint.Env+"="+string(p)+"=kill")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("the maker ended with %v: %s", err, out)
			}
			if len(ports(t, l.ns)) != 1 {
				t.Fatalf("%s: the killed maker left %v", p, ports(t, l.ns))
			}
			s := l.spec(1, mode)
			s.Lower = l.ns.Link(t, lower).Index
			dev := l.ensure(t, s)
			if err := l.Remove(t.Context(), dev); err != nil || len(ports(t, l.ns)) > 0 {
				t.Errorf("%s: %v, left %v", p, err, ports(t, l.ns))
			}
		}
	}
}

func makeAndDie(t *testing.T, path string) {
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		conn, err := rtnl.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		u0, err := conn.LinkByName(context.Background(), os.Getenv("TAPDEV_TEST_LOWER"))
		if err != nil {
			return err
		}
		l := &lab{Host: New(conn, nil, parse(t, os.Getenv(failpoint.Env))), u0: u0}
		_, err = l.Ensure(context.Background(), l.spec(1, vmnetd.Mode(os.Getenv("TAPDEV_TEST_MODE"))))
		return err
	})
	t.Fatalf("survived: %v", err)
}

func TestBadRequestsAreRefusedBeforeTheKernelIsAsked(t *testing.T) {
	l := newLab(t, nil)
	bad := map[string]func(*Spec){
		"257 queues": func(s *Spec) { s.Queues = 257 },
		"0 queues":   func(s *Spec) { s.Queues = 0 },
		"longer":     func(s *Spec) { s.Ifname = "vmn4567890123456" },
		"begin":      func(s *Spec) { s.Ifname = "eth0" },
		"characters": func(s *Spec) { s.Ifname = "vmn%d" },
		"all zero":   func(s *Spec) { s.MAC = make([]byte, 6) },
		"multicast":  func(s *Spec) { s.MAC = testkit.Broadcast },
		"form":       func(s *Spec) { s.MAC = nil },
		"no mode":    func(s *Spec) { s.Mode = "l4" },
		"mode of a":  func(s *Spec) { s.Kind = vmnetd.Tap },
		"has none":   func(s *Spec) { s.Kind = vmnetd.Macvlan },
		"flag":       func(s *Spec) { s.Mode, s.Flag = vmnetd.L2, "sideways" },
		"far end":    func(s *Spec) { s.Mode, s.Kind, s.Queues = vmnetd.Switched, vmnetd.Veth, 0 },
		"not one of": func(s *Spec) { s.Mode, s.Port.PVID = vmnetd.Switched, 4095 },
		"no part":    func(s *Spec) { s.Mode, s.Port.Trunk = vmnetd.Switched, []vmnetd.VLANRange{{From: 9, To: 8}} },
		"untagged": func(s *Spec) {
			s.Mode, s.Port = vmnetd.Switched, Port{PVID: 8, Trunk: []vmnetd.VLANRange{{From: 8, To: 9}}}
		},
		"below":   func(s *Spec) { s.MTU = -1 },
		"VM name": func(s *Spec) { s.VM = "../x" },
		"NIC id":  func(s *Spec) { s.ID = "0" },
	}
	for part, f := range bad {
		s := l.spec(1, vmnetd.Bridge)
		f(&s)
		_, err := l.Ensure(t.Context(), s)
		says(t, err, vmnetd.ErrInvalid, part)
	}
}

func TestWhatIsInTheWayIsNamed(t *testing.T) {
	l := newLab(t, nil)
	_, err := l.Ensure(t.Context(), Spec{VM: "a", ID: "n", Ifname: "vmna", Lower: 4711, Mode: vmnetd.Bridge, MAC: mac(1), Queues: 1})
	says(t, err, vmnetd.ErrNotFound, "4711")

	big := l.spec(1, vmnetd.Bridge)
	big.MTU = 9000
	_, err = l.Ensure(t.Context(), big)
	says(t, err, vmnetd.ErrBusy, "MTU 9000", "1500 of u0")

	on := l.spec(1, vmnetd.Bridge)
	on.Lower = l.ns.Link(t, "lo").Index
	_, err = l.Ensure(t.Context(), on)
	says(t, err, vmnetd.ErrUnsupported, "lo")

	first := l.ensure(t, l.spec(1, vmnetd.Bridge))
	_, err = l.Ensure(t.Context(), l.spec(2, vmnetd.Passthru))
	says(t, err, vmnetd.ErrBusy, "alone", "vm1/net0")

	stacked := l.spec(3, vmnetd.Bridge)
	stacked.Lower = first.Ifindex // the kernel puts it on u0 instead
	_, err = l.Ensure(t.Context(), stacked)
	says(t, err, vmnetd.ErrFailed, "otherwise than asked")
	if err := l.Remove(t.Context(), first); err != nil {
		t.Fatal(err)
	}

	alone := l.ensure(t, l.spec(1, vmnetd.Passthru))
	_, err = l.Ensure(t.Context(), l.spec(2, vmnetd.Private))
	says(t, err, vmnetd.ErrBusy, "for itself", "vm1/net0")
	if err := l.Remove(t.Context(), alone); err != nil {
		t.Fatal(err)
	}

	br := l.ns.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	l.ns.Set(t, "u0", rtnl.Master(br.Index))
	_, err = l.Ensure(t.Context(), l.spec(1, vmnetd.Bridge))
	says(t, err, vmnetd.ErrBusy, "port of bridge br0")
	if left := l.devices(t); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestMissingKindIsSaidBeforeAnythingIsMade(t *testing.T) {
	l := newLab(t, nil)
	err := l.conn.Create(t.Context(), rtnl.NewLink{Name: "vmnx", Kind: "vmnnone", Lower: l.u0.Index})
	says(t, l.whyNotCreated(t.Context(), l.spec(1, vmnetd.Bridge), l.u0, err), vmnetd.ErrUnsupported, "no macvtap")
	none := kind{name: "vmnnone", link: "vmnnone", module: "vmnnone", maker: message{}, level: vmnetd.LevelFail}
	if c := l.checkKind(t.Context(), none); c.Level != vmnetd.LevelFail || c.Do == "" {
		t.Errorf("doctor says %+v", c)
	}
	for _, k := range kinds {
		if c := l.checkKind(t.Context(), k); c.Level != vmnetd.LevelOK && vmnetd.FamilyOf(k.link) != vmnetd.FamilyIpvlan {
			t.Errorf("doctor says %+v", c)
		}
	}
	if left := l.devices(t); len(left) > 0 {
		t.Errorf("doctor made %v", left)
	}
}

func TestDoctorSaysWhatToDoAboutWhatIsNotOK(t *testing.T) {
	l := newLab(t, nil)
	l.ownDev(t)
	checks := l.Doctor(t.Context())
	if len(checks) != 3+len(kinds) {
		t.Errorf("%d checks", len(checks))
	}
	for _, c := range checks {
		if c.Text == "" || c.Level == vmnetd.LevelFail || c.Level != vmnetd.LevelOK && c.Do == "" {
			t.Errorf("%+v", c)
		}
	}
	noFolderLeft(t, l.dev)
}
