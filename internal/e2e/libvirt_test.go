package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	b := newBed(t, config)
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

// nothing waits until no device of ours is left.
func (b *libvirtBed) nothing() {
	b.t.Helper()
	b.eventually("nothing is left", 10*time.Second, func() error {
		if devices := b.devices(); len(devices) != 0 {
			return fmt.Errorf("devices %v", devices)
		}
		if list := b.list(); len(list) != 0 {
			return fmt.Errorf("attachments %+v", list)
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

func TestLiveAndConfigAsVirshMeansThem(t *testing.T) {
	b := newLibvirtBed(t, libvirtConfig)
	b.start()
	b.define("vm1")
}
