package domxml

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// q35 is a domain with ports to plug into and these interfaces.
func q35(name, interfaces string) string {
	return `<domain type='qemu'><name>` + name + `</name><memory unit='MiB'>64</memory><vcpu current='2'>4</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/><controller type='pci' model='pcie-root'/>` +
		strings.Repeat("<controller type='pci' model='pcie-root-port'/>", 8) + interfaces + `</devices></domain>`
}

// fileOf is a file of that content, for virsh.
func fileOf(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.xml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func parsed(t *testing.T, text string) Domain {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

func TestLibvirtTakesEveryFormOfAnInterface(t *testing.T) {
	testkit.Require(t, "libvirt")
	ns, peer := testkit.NewNetns(t), testkit.NewNetns(t)
	testkit.NewVeth(t, ns, "up0", peer, "peer0")
	// libvirtd opens /dev/tapN by the ifindex, which other namespaces use too.
	const index = 1_600_000_000
	made := func(k, queues int) Element {
		mac := net.HardwareAddr{0x52, 0x54, 0, 0, 1, byte(k)}
		e := Element{NIC: NIC{MAC: mac.String()}, Target: "vmnform" + string(rune('a'+k)), Queues: queues}
		ns.Create(t, rtnl.NewLink{Name: e.Target, Kind: "macvtap", Lower: ns.Link(t, "up0").Index, MAC: mac, Queues: queues, Index: index + os.Getpid()%1_000_000*8 + k})
		return e
	}
	plain, wide, slow, down, placed := made(0, 1), made(1, 4), made(2, 1), made(3, 1), made(4, 1)
	slow.MTU, down.LinkDown, placed.Addr = 1400, true, "0000:05:00.0"

	l := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{Netns: ns.Do})
	l.Virsh("define", fileOf(t, q35("forms", "")))
	l.Virsh("start", "--paused", "forms")
	for _, e := range []Element{plain, wide, slow, down, placed} {
		l.Virsh("attach-device", "forms", "--live", "--config", fileOf(t, e.XML()))
		for _, kind := range [][]string{{"dumpxml", "forms"}, {"dumpxml", "--inactive", "forms"}} {
			d := parsed(t, l.Virsh(kind...))
			got := d.Interfaces[len(d.Interfaces)-1]
			want := Interface{Type: "ethernet", MAC: e.MAC, Target: e.Target, Model: "virtio", Queues: e.Queues, MTU: e.MTU, LinkDown: e.LinkDown, Addr: e.Addr}
			if want.Addr == "" {
				want.Addr = got.Addr // libvirt has chosen it
			}
			if want.Alias = got.Alias; (want.Alias == "") != (d.ID == 0) || got.Addr == "" {
				t.Errorf("%+v has no alias or no address", got)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%v of %s\n%s", kind, e.XML(), diff)
			}
		}
	}
	if d := parsed(t, l.Virsh("dumpxml", "forms")); len(d.Ours()) != 5 || d.ID == 0 || d.VCPUs != 2 || d.UUID == "" {
		t.Errorf("%+v", d)
	}
}

func TestLibvirtKeepsOurMetadata(t *testing.T) {
	testkit.Require(t, "libvirt")
	l := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
	l.Virsh("define", fileOf(t, q35("meta", "")))
	nics := []NIC{
		{MAC: "52:54:00:00:00:01", ID: "net0", Network: "<a> & 'b'", Mode: "bridge"},
		{MAC: "52:54:00:00:00:02", Was: "<interface type='direct'>\r\n\t<x a='&lt;'/>\n\n  ]]> </interface>"},
	}
	labels := map[string]string{"tier": "web", "é": ""}
	l.Virsh("metadata", "meta", NS, "--key", "vmnetd", "--config", "--set", Metadata(nics, labels))
	got := parsed(t, l.Virsh("dumpxml", "--inactive", "meta"))
	if diff := cmp.Diff(nics, got.NICs); diff != "" || !cmp.Equal(labels, got.Labels) {
		t.Errorf("%v\n%s", got.Labels, diff)
	}
	l.Virsh("metadata", "meta", NS, "--config", "--remove")
	if got := parsed(t, l.Virsh("dumpxml", "--inactive", "meta")); got.NICs != nil || got.Labels != nil {
		t.Errorf("%+v", got)
	}
}

const hostNICs = `<interface type='direct'><mac address='52:54:00:00:02:01'/><source dev='eno1' mode='bridge'/><model type='virtio'/><driver queues='4'/><boot order='2'/></interface>
<interface type='direct'><mac address='52:54:00:00:02:02'/><source dev='eno1' mode='passthrough'/><model type='e1000e'/><link state='down'/></interface>
<interface type='bridge'><mac address='52:54:00:00:02:03'/><source bridge='br0'/><model type='virtio'/><mtu size='9000'/><address type='pci' bus='0x07' slot='0x00'/></interface>
<interface type='direct'><mac address='52:54:00:00:02:04'/><source dev='eno1' mode='vepa'/><bandwidth><inbound average='1000'/></bandwidth><model type='virtio'/></interface>`

func TestADefinitionIsImportedAndIsAsItWasAfterRevert(t *testing.T) {
	testkit.Require(t, "libvirt")
	l := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
	for name, text := range map[string]string{
		"none":    q35("none", hostNICs),
		"empty":   strings.Replace(q35("empty", hostNICs), "<memory ", "<metadata/><memory ", 1),
		"another": strings.Replace(q35("another", hostNICs), "<memory ", "<title>t</title><metadata><x:y xmlns:x='http://example.com/x'/></metadata><memory ", 1),
		"ours":    strings.Replace(q35("ours", hostNICs), "<memory ", "<metadata><v:nics xmlns:v='"+NS+"'><v:label name='a' value='b'/></v:nics></metadata><memory ", 1),
	} {
		l.Virsh("define", fileOf(t, text))
		before := l.Virsh("dumpxml", "--inactive", name)
		text, changed, err := Import(before, toNet)
		if err != nil || len(changed) != 4 || changed[0].Problem+changed[1].Problem+changed[2].Problem != "" || changed[3].Problem != "<bandwidth> is in the way" {
			t.Fatalf("%v %+v", err, changed)
		}
		l.Virsh("define", fileOf(t, text))
		during := l.Virsh("dumpxml", "--inactive", name)
		was, is := parsed(t, before), parsed(t, during)
		for k, c := range changed[:3] {
			want := was.Interfaces[k]
			want.Type, want.Source, want.Managed, want.Target = "ethernet", Source{}, false, c.Now.Target
			if diff := cmp.Diff(want, is.Interfaces[k]); diff != "" || !is.Interfaces[k].Ours() || want.Addr == "" {
				t.Errorf("%s, interface %d\n%s", name, k, diff)
			}
			if diff := cmp.Diff(c.Now.NIC, is.NICOf(is.Interfaces[k])); diff != "" {
				t.Errorf("%s, interface %d\n%s", name, k, diff)
			}
		}
		if !strings.Contains(during, "<boot order='2'/>") {
			t.Errorf("%s: the boot order is lost\n%s", name, during)
		}
		text, _, err = Revert(during)
		if diff := cmp.Diff(before, text); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		l.Virsh("define", fileOf(t, text))
		if diff := cmp.Diff(before, l.Virsh("dumpxml", "--inactive", name)); diff != "" {
			t.Errorf("%s: libvirt has it otherwise\n%s", name, diff)
		}
	}
}
