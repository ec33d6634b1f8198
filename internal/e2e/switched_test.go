package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const switchedConfig = `
uplinks:
  - {name: br0, external: {}}
networks:
  - {name: sw, uplinks: [br0], modes: [switched, bridge]}
  - {name: flagged, uplinks: [br0], modes: [switched], port: {hairpin: true, isolated: true, learning: false, bpdu_guard: false}}
  - {name: whole, uplinks: [br0], modes: auto}
rules:
  - {vm: "*", networks: [sw, flagged]}
  - {vm: "*", networks: [whole], modes: [passthru, switched]}
hypervisors: {libvirt: {uri: none}, qmp: {sockets: ["DIR/qmp/{vm}.sock"]}}
`

// ported says why a NIC's device is no port of br0, up.
func (b *bed) ported(att vmnetd.Attachment) error {
	b.t.Helper()
	br, dev := b.host.Link(b.t, "br0"), b.host.Link(b.t, att.Ifname)
	if dev.Master != br.Index || !dev.Up || dev.Alias != "vmnetd:"+att.FullName() {
		return fmt.Errorf("the device is %+v, the bridge %d", dev, br.Index)
	}
	return nil
}

func TestTapOnABridgeWithEachNumberOfQueues(t *testing.T) {
	t.Parallel()
	for _, queues := range []int{1, 4} {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			t.Parallel()
			b := newModesBed(t, switchedConfig)
			vm := b.ejectingVM("vm1")
			b.start()
			well := func() error {
				list := b.list()
				if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Problem != "" || list[0].Link != "up" {
					return fmt.Errorf("%+v", list)
				}
				if n := tapQueues(vm.PID); n != queues {
					return fmt.Errorf("QEMU holds %d queues: %v", n, openFiles(vm.PID))
				}
				return b.ported(list[0])
			}
			mac := map[int][]string{4: {"--mac", "52:54:00:0e:00:07"}}[queues] // another one than that which is derived
			att := b.attach(append(mac, "vm1", "--network", "sw", "--queues", fmt.Sprint(queues), "--ip", "10.99.0.7")...)
			if att.Kind != vmnetd.Tap || att.Mode != vmnetd.Switched || att.Queues != queues || att.Link != "up" {
				t.Errorf("attached as %+v", att)
			}
			b.eventually("attached", testkit.Patience, well)
			if again := b.attach(append(mac, "vm1", "--network", "sw", "--queues", fmt.Sprint(queues), "--ip", "10.99.0.7")...); again.Changed {
				t.Errorf("the second time: %+v", again)
			}

			own := pluggedIn(b, vm, "net0")
			deleted := time.Now()
			b.host.Delete(t, att.Ifname)
			b.told(deleted, "broken", "vm1", "net0")
			b.told(deleted, "attached", "vm1", "net0")
			b.eventually("plugged again", 5*time.Second, well)
			if now := pluggedIn(b, vm, "net0"); now.bus != own.bus || now.addr != own.addr || now.mac != own.mac {
				t.Errorf("the NIC is %+v, it was %+v", now, own)
			}

			b.kill()
			b.start()
			b.eventually("after kill -9", 5*time.Second, well)
			b.kill()
			if err := os.Remove(b.path("state/state.json")); err != nil {
				t.Fatal(err)
			}
			b.start()
			b.eventually("with a lost state", 5*time.Second, well)
			if list := b.list(); list[0].Kind != vmnetd.Tap || list[0].Mode != vmnetd.Switched || list[0].Queues != queues || list[0].MAC != att.MAC || list[0].Network != "sw" {
				t.Errorf("adopted as %+v", list)
			}

			b.inside(b.host, "ip", "link", "set", att.Ifname, "nomaster")
			b.eventually("taken out of the bridge by hand", 5*time.Second, well)
			b.must(0, "detach", "vm1")
			b.nothing()
			if n := tapQueues(vm.PID); n != 0 {
				t.Errorf("after detach QEMU holds %d queues", n)
			}

			b.attach("vm1", "--network", "sw", "--queues", fmt.Sprint(queues))
			vm.Kill()
			b.nothing()
			if r := b.ruleset(b.host); strings.Contains(r, "chain") {
				t.Errorf("a filter is left:\n%s", r)
			}
			b.stop()
		})
	}
}

func TestTheBridgeThatGoesAndComesTakesItsNICBack(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, switchedConfig)
	b.ejectingVM("vm1")
	b.start()
	b.attach("vm1", "--network", "sw")
	b.host.Delete(t, "br0")
	b.eventually("the end of the bridge is seen", testkit.Patience, func() error {
		if list := b.list(); len(list) != 1 || list[0].Phase != vmnetd.Broken || !strings.Contains(list[0].Problem, "br0") {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	b.host.Create(t, rtnl.NewLink{Name: "br0", Kind: "bridge"})
	b.inside(b.host, "ip", "link", "set", "p0", "master", "br0")
	b.host.SetUp(t, "br0")
	b.eventually("back on it", 5*time.Second, func() error {
		list := b.list()
		if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Problem != "" {
			return fmt.Errorf("%+v", list)
		}
		return b.ported(list[0])
	})
	b.must(0, "detach", "vm1")
	b.nothing()
	b.stop()
}

func TestPortFlagsAreAsTheNetworkSaysAndFollowIt(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, switchedConfig)
	b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	plain, flagged := b.attach("vm1", "--network", "sw"), b.attach("vm2", "--network", "flagged")
	shows := func(att vmnetd.Attachment, words ...string) error {
		var missing []error
		text := b.inside(b.host, "bridge", "-d", "link", "show", "dev", att.Ifname)
		for _, w := range words {
			if !strings.Contains(text, w+" ") {
				missing = append(missing, fmt.Errorf("no %q", w))
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%w in %s", errors.Join(missing...), text)
		}
		return nil
	}
	usual := []string{"hairpin off", "isolated off", "learning on", "guard on"}
	other := []string{"hairpin on", "isolated on", "learning off", "guard off"}
	if err := errors.Join(shows(plain, usual...), shows(flagged, other...)); err != nil {
		t.Error(err)
	}
	b.config(strings.Replace(switchedConfig, "port: {hairpin: true, isolated: true, learning: false, bpdu_guard: false}", "port: {isolated: true}", 1))
	b.must(0, "reload")
	b.eventually("the port follows", 5*time.Second, func() error {
		return shows(flagged, "hairpin off", "isolated on", "learning on", "guard on")
	})
	if list := b.list("vm2"); list[0].Ifindex != flagged.Ifindex {
		t.Errorf("it was made anew: %+v", list)
	}
	b.stop()
}

func TestABridgeGivesNoPassthru(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, switchedConfig)
	b.ejectingVM("vm1")
	b.start()
	before := b.asItIs(b.host)
	b.oneSentence(b.must(3, "attach", "vm1", "--network", "sw", "--mode", "passthru"), "passthru")
	b.oneSentence(b.must(3, "attach", "vm1", "--network", "flagged", "--mode", "bridge"), "bridge")
	b.same(before, b.host)
	if att := b.attach("vm1", "--network", "sw", "--mode", "bridge"); att.Kind != vmnetd.Macvtap {
		t.Errorf("a macvtap over the bridge: %+v", att)
	}
	b.stop()
}

func TestExecAndTheTapHelperGiveATapOnABridge(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, switchedConfig)
	b.start()
	p := b.execVM("vm1", []string{"--network", "sw", "--queues", "2"})
	line := b.helperLine("vm2", "tap-helper vm2 sw --mac 52:54:00:00:4e:05", "52:54:00:00:4e:05", "-S")
	h := b.spawn(line[0], line[1:]...)
	for vm, want := range map[string]struct {
		p      *process
		queues int
	}{"vm1": {p, 2}, "vm2": {h, 1}} {
		att := b.attachedVM(vm)
		if err := b.ported(att); err != nil || att.Kind != vmnetd.Tap {
			t.Errorf("%+v: %v", att, err)
		}
		b.eventually(vm+" has its queues", 10*time.Second, func() error {
			if n := tapQueues(want.p.pid()); n != want.queues {
				return fmt.Errorf("%d queues, want %d: %s", n, want.queues, &want.p.out)
			}
			return nil
		})
	}
	b.kill()
	b.start()
	b.attachedVM("vm1")
	b.attachedVM("vm2")
	for _, p := range []*process{p, h} {
		p.signal(9)
		p.wait(t)
	}
	b.nothing()
	b.stop()
}

func TestAPortThatTheBridgeHasShutIsTheNICsProblemUntilItIsOpenAgain(t *testing.T) {
	t.Parallel()
	open := strings.Replace(modesConfig, "modes: [switched]}", "modes: [switched], filter: {spoof: allow, dhcp_server: allow, ra: allow}}", 1)
	b := newModesBed(t, open)
	b.start()
	s := b.tapSpeaker("vm1", "o1", "--network", "sw")
	b.inside(b.host, "ip", "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "200")
	bpdu := make([]byte, 60)
	copy(bpdu, append(append([]byte{1, 0x80, 0xc2, 0, 0, 0}, s.mac...), 0, 38, 0x42, 0x42, 3))
	s.send(bpdu)
	problem := func(want string) func() error {
		return func() error {
			if att := b.attachedVM("vm1"); !strings.Contains(att.Problem, want) || want == "" && att.Problem != "" {
				return fmt.Errorf("%+v", att)
			}
			return nil
		}
	}
	b.eventually("told", 5*time.Second, problem("has shut its port"))
	if r := b.must(0, "status", "--check"); !strings.Contains(r.out, "bpdu_guard") {
		t.Errorf("%s", r.out)
	}
	b.inside(b.host, "ip", "link", "set", s.att.Ifname, "down")
	b.eventually("open again", 5*time.Second, problem(""))
	if dev := b.host.Link(t, s.att.Ifname); !dev.Up || dev.IsShut() {
		t.Errorf("%+v", dev)
	}
	b.stop()
}
