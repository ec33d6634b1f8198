package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

const libvirtConfig = `
uplinks:
  - {name: u0, nic: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge, private, vepa]}
  - {name: whole, uplinks: [u0], modes: [passthru]}
  - {name: free, uplinks: [u0], modes: [bridge], mac: {change: allow}}
rules:
  - {vm: "evil*", deny: "INC-4711"}
  - {vm: "*", networks: [lan, free]}
  - {vm: "*", networks: [whole], modes: [passthru]}
hypervisors: {libvirt: {uri: "URI"}, qmp: {sockets: ["DIR/qmp/{vm}.sock"]}}
`

// libvirtBed is a bed with a libvirtd that has our hook.
type libvirtBed struct {
	*bed
	*testkit.Libvirtd
}

func newLibvirtBed(t *testing.T, config string) *libvirtBed {
	t.Helper()
	testkit.Require(t, "libvirt")
	return withLibvirt(newBed(t, config), config)
}

// withLibvirt gives a bed a libvirtd that has our hook.
func withLibvirt(b *bed, config string) *libvirtBed {
	t := b.t
	t.Helper()
	l := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{Netns: b.host.Do})
	b.config(strings.ReplaceAll(config, "URI", l.URI))
	b.must(0, "hook", "install", "--dir", l.Hooks)
	l.Kill() // hooks count when libvirtd starts
	l.Start()
	return &libvirtBed{b, l}
}

// define makes a paused-able domain with NICs as `vmnetd xml` writes them.
func (b *libvirtBed) define(name string, interfaces ...string) {
	b.t.Helper()
	ports := ""
	for i := range 6 + len(interfaces) {
		ports += fmt.Sprintf("<controller type='pci' index='%d' model='pcie-root-port'/>", i+1)
	}
	b.defineXML(name, fmt.Sprintf(`<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>%s</name><memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<devices><controller type='usb' model='none'/><memballoon model='none'/><controller type='pci' index='0' model='pcie-root'/>%s%s</devices>
<qemu:commandline><qemu:arg value='%s'/><qemu:arg value='%s'/></qemu:commandline></domain>`, name, ports, strings.Join(interfaces, ""), ejectsPaused[0], ejectsPaused[1]))
}

func (b *libvirtBed) defineXML(name, xml string) {
	b.t.Helper()
	file := filepath.Join(b.Dir, name+".xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.Virsh("define", file)
}

// ours is the interfaces of ours in a domain's XML.
func (b *libvirtBed) ours(name string, flags ...string) []domxml.Interface {
	b.t.Helper()
	dom, err := domxml.Parse(b.Virsh(append([]string{"dumpxml", name}, flags...)...))
	if err != nil {
		b.t.Fatal(err)
	}
	return dom.Ours()
}

// settled waits until a VM's NICs are attached with their links as told, and
// checks that libvirt, list and the kernel say the same.
func (b *libvirtBed) settled(vm, link string, n int) {
	b.t.Helper()
	b.eventually(vm+" has its NICs", 10*time.Second, func() error {
		list := b.list(vm)
		devices := b.devices()
		if len(list) != n {
			return fmt.Errorf("%d attachments: %+v", len(list), list)
		}
		for _, att := range list {
			if att.Phase != vmnetd.Attached || att.Link != link || !slices.Contains(devices, att.Ifname) {
				return fmt.Errorf("%+v among %v", att, devices)
			}
			if !slices.ContainsFunc(b.ours(vm), func(i domxml.Interface) bool { return i.Target == att.Ifname && i.MAC == att.MAC }) {
				return fmt.Errorf("%s is not in the domain's XML", att.Ifname)
			}
		}
		return nil
	})
}

// hasProblem waits until that is the problem of a VM's only NIC.
func (b *libvirtBed) hasProblem(vm, problem string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%s has problem %q", vm, problem), testkit.Patience, func() error {
		if list := b.list(vm); len(list) != 1 || list[0].Problem != problem {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}

func TestVirshStartAloneGivesADomainItsNICByPolicy(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1", b.must(0, "xml", "vm1", "--network", "lan", "--mode", "private").out)
	b.Virsh("start", "--paused", "vm1")
	b.settled("vm1", "down", 1)
	if att := b.list("vm1")[0]; att.Via != "libvirt" || att.ID != "net0" || att.Rule == "" {
		t.Errorf("%+v", att)
	}
	b.Virsh("resume", "vm1")
	b.settled("vm1", "up", 1)
	b.Virsh("suspend", "vm1")
	b.settled("vm1", "down", 1)
	b.Virsh("destroy", "vm1")
	if devices := b.devices(); len(devices) != 0 {
		t.Errorf("virsh destroy has returned, and there is %v", devices)
	}
	b.nothing()
}

func TestDeniedStartIsOneSentenceInLibvirtsError(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("evil1", `<interface type='ethernet'><target dev='vmnevil' managed='no'/><model type='virtio'/></interface>`)
	if _, err := b.TryVirsh("start", "evil1"); err == nil || !strings.Contains(err.Error(), "INC-4711") {
		t.Errorf("%v", err)
	}
	b.nothing()
}

func TestWithoutTheDaemonOnlyVMsWithANICOfOursDoNotStart(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1", b.must(0, "xml", "vm1").out)
	b.define("other", "")
	b.kill()
	if _, err := b.TryVirsh("start", "--paused", "vm1"); err == nil || !strings.Contains(err.Error(), "systemctl start vmnetd") {
		t.Errorf("%v", err)
	}
	b.Virsh("start", "--paused", "other")
	b.start()
	b.Virsh("start", "--paused", "vm1")
	b.settled("vm1", "down", 1)
	b.kill()
	b.Virsh("destroy", "vm1")
	b.start()
	b.nothing()
}

func TestTwentyVMsStartedAtOnce(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	const n = 20
	for i := range n {
		name := fmt.Sprintf("vm%d", i)
		b.define(name, b.must(0, "xml", name).out)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := b.TryVirsh("start", "--paused", fmt.Sprintf("vm%d", i)); err != nil {
				t.Errorf("vm%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range n {
		b.settled(fmt.Sprintf("vm%d", i), "down", 1)
	}
	for i := range n {
		wg.Go(func() { _, _ = b.TryVirsh("destroy", fmt.Sprintf("vm%d", i)) })
	}
	wg.Wait()
	b.nothing()
}

func TestEveryModeByLibvirt(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
	b.Virsh("start", "vm1")
	for _, mode := range []string{"bridge", "private", "vepa", "passthru"} {
		for _, queues := range []int{1, 4} {
			network := "lan"
			if mode == "passthru" {
				network = "whole"
			}
			att := b.attach("vm1", "--network", network, "--mode", mode, "--queues", fmt.Sprint(queues), "--live", "--config")
			if att.Via != "libvirt" || att.Phase != vmnetd.Attached || att.Link != "up" || att.Problem != "" || att.Queues != queues {
				t.Fatalf("%s, %d queues: %+v", mode, queues, att)
			}
			b.settled("vm1", "up", 1)
			for _, kind := range [][]string{nil, {"--inactive"}} {
				if ours := b.ours("vm1", kind...); len(ours) != 1 || ours[0].Target != att.Ifname || ours[0].Queues != queues || ours[0].MTU != 1500 || ours[0].Managed {
					t.Errorf("dumpxml %v: %+v", kind, ours)
				}
			}
			if !strings.Contains(b.Virsh("dumpxml", "vm1", "--inactive"), `network="`+network+`" mode="`+mode+`"`) {
				t.Errorf("no metadata:\n%s", b.Virsh("dumpxml", "vm1", "--inactive"))
			}
			if again := b.attach("vm1", "--network", network, "--mode", mode, "--queues", fmt.Sprint(queues), "--live", "--config"); again.Changed {
				t.Errorf("the same again: %+v", again)
			}
			b.must(0, "detach", "vm1", "--live", "--config")
			b.nothing()
			if ours := b.ours("vm1", "--inactive"); len(ours) != 0 || strings.Contains(b.Virsh("dumpxml", "vm1", "--inactive"), "vmnetd:nic") {
				t.Errorf("the definition still has %+v", ours)
			}
		}
	}
	if tainted := b.Virsh("dominfo", "vm1"); strings.Contains(tainted, "custom-monitor") {
		t.Errorf("tainted: %s", tainted)
	}
}

func TestLiveAndConfigAsVirshMeansThem(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
	for _, changed := range []bool{true, false} { // shut off: what is kept
		if att := b.attach("vm1"); att.Changed != changed || att.Problem != vmnetd.NextStart {
			t.Errorf("%+v", att)
		}
	}
	b.nothingAttached()
	b.Virsh("start", "vm1")
	b.settled("vm1", "up", 1)
	if att := b.attach("vm1", "--id", "net1"); !strings.Contains(att.Problem, "live only: gone at the next start, add --config") {
		t.Errorf("live only: %+v", att)
	}
	if att := b.attach("vm1", "--id", "net1", "--config"); att.Problem != "" || !att.Changed {
		t.Errorf("kept: %+v", att)
	}
	b.must(0, "detach", "vm1", "--id", "net1", "--live")
	b.settled("vm1", "up", 1)
	b.Virsh("destroy", "vm1")
	b.nothing()
	b.Virsh("start", "vm1")
	b.settled("vm1", "up", 2)
	b.must(0, "detach", "vm1", "--id", "net1", "--config")
	b.settled("vm1", "up", 2)
	b.Virsh("destroy", "vm1")
	b.Virsh("start", "vm1")
	b.settled("vm1", "up", 1)
	b.Virsh("destroy", "vm1")
	b.must(0, "detach", "vm1")
	if ours := b.ours("vm1", "--inactive"); len(ours) != 0 {
		t.Errorf("the definition still has %+v", ours)
	}
}

func (b *libvirtBed) nothingAttached() {
	b.t.Helper()
	if list := b.list(); len(list) != 0 || len(b.devices()) != 0 {
		b.t.Errorf("%+v, devices %v", list, b.devices())
	}
}

func TestWhatOthersDoWithVirshIsFollowed(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
	b.Virsh("start", "vm1")
	for what, do := range map[string]func(mac string){
		"detach-interface": func(mac string) { b.Virsh("detach-interface", "vm1", "ethernet", "--mac", mac, "--live") },
		"undefine, then destroy": func(string) {
			b.Virsh("undefine", "vm1")
			b.settled("vm1", "up", 1)
			b.Virsh("destroy", "vm1")
			b.define("vm1")
			b.Virsh("start", "vm1")
		},
		"reset": func(string) {
			b.Virsh("reset", "vm1")
			b.settled("vm1", "up", 1)
			b.Virsh("destroy", "vm1")
			b.Virsh("start", "vm1")
		},
	} {
		t.Log(what)
		att := b.attach("vm1", "--live")
		b.settled("vm1", "up", 1)
		do(att.MAC)
		b.nothing()
	}
}

func TestLibvirtdAndVmnetdAreKilledUnderANIC(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
	b.Virsh("start", "vm1")
	att := b.attach("vm1", "--live", "--config")
	same := func(what string) {
		if what != "without libvirtd" {
			b.settled("vm1", "up", 1)
			b.hasProblem("vm1", "")
		}
		if now := b.list("vm1")[0]; now.Ifindex != att.Ifindex || now.MAC != att.MAC || now.Phase != vmnetd.Attached {
			t.Errorf("%s: %+v was %+v", what, now, att)
		}
	}
	for what, do := range map[string]func(){
		"libvirtd": func() { b.Kill(); same("without libvirtd"); b.Start() },
		"vmnetd":   func() { b.kill(); b.start() },
		"both":     func() { b.kill(); b.Kill(); b.start(); same("without libvirtd"); b.Start() },
		"vmnetd, and its state is lost": func() {
			b.kill()
			if err := os.Remove(b.path("state/state.json")); err != nil {
				t.Fatal(err)
			}
			b.start()
		},
	} {
		do()
		same(what)
	}
	b.Kill()
	if r := b.run("attach", "vm1", "--id", "net1"); r.code != 1 || !strings.Contains(r.err, "libvirtd does not answer") {
		t.Errorf("attach without libvirtd: %+v", r)
	}
	b.Start()
	b.eventually("vmnetd is back at libvirtd", 10*time.Second, func() error {
		if r := b.run("attach", "vm1", "--id", "net1"); r.code != 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	b.must(0, "detach", "vm1", "--all")
	b.nothing()
}

// TestAttachAndVirshStartAtOnce: libvirtd answers nothing about a domain while
// its hook runs, and the hook waits for us. A hundred times, by four VMs.
func TestAttachAndVirshStartAtOnce(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	var vms sync.WaitGroup
	for i := range 4 {
		vm := fmt.Sprintf("vm%d", i)
		b.define(vm, b.must(0, "xml", vm).out)
		vms.Go(func() {
			for range 25 {
				if err := b.attachAndStart(vm); err != nil {
					t.Errorf("%s: %v", vm, err)
					return
				}
			}
		})
	}
	vms.Wait()
	b.nothing()
}

func (b *libvirtBed) attachAndStart(vm string) error {
	attached := make(chan error, 1)
	go func() {
		r := b.run("attach", vm, "--id", "net7", "--live")
		if r.code != 0 && r.code != 4 && r.code != 5 { // it came too early
			attached <- fmt.Errorf("attach: %+v", r)
		}
		close(attached)
	}()
	_, err := b.TryVirsh("start", vm)
	if err := errors.Join(err, <-attached); err != nil {
		return err
	}
	b.eventually("net0 is attached", 20*time.Second, func() error {
		list := b.list(vm)
		for _, att := range list {
			if att.ID == "net0" && att.Phase == vmnetd.Attached && att.Link == "up" {
				return nil
			}
		}
		return fmt.Errorf("%+v", list)
	})
	if _, err := b.TryVirsh("destroy", vm); err != nil {
		return err
	}
	b.eventually("nothing is left of it", 20*time.Second, func() error {
		if list := b.list(vm); len(list) != 0 {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	return nil
}

func TestBadInputAboutLibvirtsVMs(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
	b.define("vm2", `<interface type='ethernet'><mac address='52:54:00:00:00:02'/><target dev='vmntaken' managed='no'/><model type='virtio'/></interface>`)
	b.Virsh("start", "vm2")
	b.settled("vm2", "up", 1)
	transient := filepath.Join(b.Dir, "t.xml")
	if err := os.WriteFile(transient, []byte(strings.ReplaceAll(b.Virsh("dumpxml", "vm1"), "vm1", "passing")), 0o600); err != nil {
		t.Fatal(err)
	}
	transientXML, _ := os.ReadFile(transient)
	if err := os.WriteFile(transient, []byte(withoutUUID(string(transientXML))), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Virsh("create", "--paused", transient)
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"attach nobody", 4, "there is no VM nobody"},
		{"attach nobody --via libvirt --config", 4, "nobody"},
		{"attach vm1 --live", 4, "shut off"},
		{"attach vm1 --live --config", 4, "shut off"},
		{"attach passing --config", 5, "transient"},
		{"attach passing --live --config", 5, "transient"},
		{"detach vm2 --mac 52:54:00:00:00:99", 4, "52:54:00:00:00:99"},
		{"attach vm2 --handover tcp", 2, "handover"},
		{"attach vm2 --bus pci.1", 2, "--bus"},
		{"attach vm2 --incoming", 5, "does not wait for a migration"},
		{"attach vm2 --network nowhere", 4, "nowhere"},
		{"attach vm2 --mac 52:54:00:00:00:02 --id net5", 5, "52:54:00:00:00:02"},
		{"import vm2 --apply", 5, "runs"},
		{"import passing", 5, "transient"},
	} {
		if r := b.run(strings.Fields(c.args)...); r.code != c.code || !strings.Contains(r.err, c.say) || strings.Count(r.err, "\n") > 2 {
			t.Errorf("%s: %+v, want %d and %q", c.args, r, c.code, c.say)
		}
	}
	b.define("vm3", `<interface type='ethernet'><target dev='vmntaken' managed='no'/><model type='virtio'/></interface>`)
	if _, err := b.TryVirsh("start", "vm3"); err == nil || !strings.Contains(err.Error(), "vmntaken") || !strings.Contains(err.Error(), "vm2") {
		t.Errorf("a target that is used: %v", err)
	}
	b.settled("vm2", "up", 1)
	if list := b.list(); len(list) != 1 || len(b.devices()) != 1 {
		t.Errorf("%+v, devices %v", list, b.devices())
	}
}

func withoutUUID(xml string) string {
	before, rest, _ := strings.Cut(xml, "<uuid>")
	_, after, _ := strings.Cut(rest, "</uuid>")
	return before + after
}

// TestNodeInDevGoesWithADeviceThatOthersDelete: the kernel leaves a node that it
// did not make, and the next device of that number would be opened by it.
func TestNodeInDevGoesWithADeviceThatOthersDelete(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
	b.Virsh("start", "vm1")
	att := b.attach("vm1", "--live")
	node := fmt.Sprintf("/dev/tap%d", att.Ifindex)
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(node), unix.Mknod(node, unix.S_IFCHR|0o600, int(st.Rdev))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // of this test's own making, if it is still there
		var now unix.Stat_t
		if unix.Stat(node, &now) == nil && now.Ino == st.Ino {
			_ = os.Remove(node)
		}
	})
	if err := unix.Stat(node, &st); err != nil {
		t.Fatal(err)
	}
	b.inside(b.host, "ip", "link", "delete", att.Ifname)
	b.eventually("plugged on another device", 20*time.Second, func() error {
		list := b.list("vm1")
		if len(list) != 1 || list[0].Ifindex == att.Ifindex || list[0].Phase != vmnetd.Attached || list[0].Link != "up" {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	var now unix.Stat_t
	if unix.Stat(node, &now) == nil && now.Ino == st.Ino {
		t.Errorf("%s is still there", node)
	}
	b.must(0, "detach", "vm1")
	b.nothing()
}
