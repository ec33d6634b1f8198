package domxml

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd"
)

func TestOursIsKnownByTypeAndName(t *testing.T) {
	d := Domain{Interfaces: []Interface{
		{Type: "ethernet", Target: "vmnabc"}, {Type: "ethernet", Target: "tap0"}, {Type: "direct", Target: "vmnabc"}, {Type: "ethernet"},
	}}
	if diff := cmp.Diff(d.Interfaces[:1], d.Ours()); diff != "" {
		t.Error(diff)
	}
}

func TestAnIDComesFromMetadataThenFromTheDevicesName(t *testing.T) {
	nic := func(mac, dev string) Interface { return Interface{Type: "ethernet", MAC: mac, Target: dev} }
	d := Domain{
		Name: "vm1",
		NICs: []NIC{{MAC: "m1", ID: "front", Network: "wan"}, {MAC: "m2", Network: "lan"}},
		Interfaces: []Interface{
			nic("m1", "vmnone"), nic("m2", "vmntwo"), nic("m3", vmnetd.Ifname("vm1", "net63")), nic("m4", vmnetd.Ifname("vm1", "net64")),
			nic("m5", vmnetd.Ifname("vm2", "net0")), nic("m6", "vmn+a:b"), nic("", "vmn.7"),
		},
	}
	want := []NIC{
		{MAC: "m1", ID: "front", Network: "wan"}, {MAC: "m2", ID: "vmntwo", Network: "lan"}, {MAC: "m3", ID: "net63"}, {MAC: "m4", ID: vmnetd.Ifname("vm1", "net64")},
		{MAC: "m5", ID: vmnetd.Ifname("vm2", "net0")}, {MAC: "m6", ID: "net5"}, {ID: "vmn.7"},
	}
	for k, i := range d.Interfaces {
		got := d.NICOf(i)
		if diff := cmp.Diff(want[k], got); diff != "" {
			t.Error(diff)
		}
		if err := vmnetd.CheckID(got.ID); err != nil {
			t.Error(err)
		}
	}
}

func TestANICTakesThePlaceOfTheOneOfItsMACOrID(t *testing.T) {
	d := Domain{NICs: []NIC{{MAC: "a", ID: "net0", Was: "x"}, {MAC: "b", ID: "net1"}, {MAC: "c"}}}
	for name, c := range map[string]struct{ got, want []NIC }{
		"new":       {d.WithNIC(NIC{MAC: "d"}), []NIC{{MAC: "a", ID: "net0", Was: "x"}, {MAC: "b", ID: "net1"}, {MAC: "c"}, {MAC: "d"}}},
		"same MAC":  {d.WithNIC(NIC{MAC: "a", ID: "net7"}), []NIC{{MAC: "a", ID: "net7", Was: "x"}, {MAC: "b", ID: "net1"}, {MAC: "c"}}},
		"same id":   {d.WithNIC(NIC{MAC: "e", ID: "net0"}), []NIC{{MAC: "b", ID: "net1"}, {MAC: "c"}, {MAC: "e", ID: "net0"}}},
		"both":      {d.WithNIC(NIC{MAC: "c", ID: "net1"}), []NIC{{MAC: "a", ID: "net0", Was: "x"}, {MAC: "c", ID: "net1"}}},
		"out":       {d.WithoutNIC("B"), []NIC{{MAC: "a", ID: "net0", Was: "x"}, {MAC: "c"}}},
		"not there": {d.WithoutNIC("z"), d.NICs},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s\n%s", name, diff)
		}
	}
	if len(d.NICs) != 3 || d.NICs[0].ID != "net0" {
		t.Errorf("the domain's own list has changed: %v", d.NICs)
	}
}

func TestAnElementIsWrittenWithNoMoreThanIsAskedFor(t *testing.T) {
	e := Element{NIC: NIC{MAC: "52:54:00:00:00:01"}, Target: "vmnabc", Queues: 1}
	const plain = `<interface type='ethernet'>
  <mac address='52:54:00:00:00:01'/>
  <target dev='vmnabc' managed='no'/>
  <model type='virtio'/>
</interface>`
	if diff := cmp.Diff(plain, e.XML()); diff != "" {
		t.Error(diff)
	}
	e.Queues, e.MTU, e.LinkDown, e.Addr, e.Target = 4, 9000, true, "0000:05:1f.7", "vmn'<&>"
	const full = `<interface type='ethernet'>
  <mac address='52:54:00:00:00:01'/>
  <target dev='vmn&#39;&lt;&amp;&gt;' managed='no'/>
  <model type='virtio'/>
  <driver queues='4'/>
  <link state='down'/>
  <mtu size='9000'/>
  <address type='pci' domain='0x0000' bus='0x05' slot='0x1f' function='0x7'/>
</interface>`
	if diff := cmp.Diff(full, e.XML()); diff != "" {
		t.Error(diff)
	}
	for _, addr := range []string{"05:00.0", "0000:05:20.0", "0000:05:00.8", "0000:05:00.0'", "\n0000:05:00.0"} {
		if e.Addr = addr; strings.Contains(e.XML(), "address type") {
			t.Errorf("%q was taken for a PCI address", addr)
		}
	}
}

// mac, id and text are what may stand in metadata.
func mac(t *rapid.T, n int) string {
	return fmt.Sprintf("52:54:00:00:%02x:%02x", n, rapid.Byte().Draw(t, "mac"))
}

var (
	idForm = rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9._-]{0,31}`)
	words  = rapid.StringOf(rapid.OneOf(rapid.SampledFrom([]rune("<>&'\"\r\n\t ]")), rapid.RuneFrom([]rune("ab\u00e9\u4e16\U0001f600"))))
)

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Element{
			NIC:    NIC{MAC: mac(t, 0)},
			Target: "vmn" + words.Draw(t, "target"), Queues: rapid.IntRange(1, 256).Draw(t, "queues"), MTU: rapid.IntRange(0, 65535).Draw(t, "mtu"), LinkDown: rapid.Bool().Draw(t, "down"),
			Addr: rapid.SampledFrom([]string{"", fmt.Sprintf("%04x:%02x:%02x.%x", rapid.Uint16().Draw(t, "domain"), rapid.Byte().Draw(t, "bus"), rapid.IntRange(0, 31).Draw(t, "slot"), rapid.IntRange(0, 7).Draw(t, "function"))}).Draw(t, "addr"),
		}
		got, err := Parse(domain("<devices>" + e.XML() + "</devices>"))
		want := Interface{Type: "ethernet", MAC: e.MAC, Target: e.Target, Model: "virtio", Queues: e.Queues, MTU: e.MTU, LinkDown: e.LinkDown, Addr: e.Addr}
		if err != nil || len(got.Interfaces) != 1 || got.Interfaces[0] != want {
			t.Fatalf("%v\n%s\ngot  %+v\nwant %+v", err, e.XML(), got.Interfaces, want)
		}
	})
}

func TestMetadataIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nics []NIC
		ids := rapid.SliceOfNDistinct(idForm, 0, 4, rapid.ID).Draw(t, "ids")
		for k, id := range ids {
			nics = append(nics, NIC{MAC: mac(t, k), ID: id, Network: words.Draw(t, "network"), Mode: rapid.SampledFrom(append(vmnetd.ModeNames(), "")).Draw(t, "mode"), Was: words.Draw(t, "was")})
		}
		labels := rapid.MapOfN(words.Filter(func(s string) bool { return s != "" }), words, 0, 4).Draw(t, "labels")
		x := nicsXML{nics: nics, labels: labels, prefix: "vmnetd", lead: rapid.SampledFrom([]string{"", "\n  "}).Draw(t, "lead")}
		plain := strings.Replace(Metadata(nics, labels), "<nics>", "<nics xmlns='"+NS+"'>", 1) // libvirt does this
		for _, text := range []string{x.String(), plain} {
			got, err := Parse(domain("<metadata>" + text + "</metadata>"))
			if len(labels) == 0 {
				labels = nil
			}
			if diff := cmp.Diff(Domain{Name: "vm1", VCPUs: 1, NICs: nics, Labels: labels}, got); err != nil || diff != "" {
				t.Fatalf("%v\n%s\n%s", err, text, diff)
			}
		}
	})
	if got := Metadata(nil, map[string]string{}); got != "" {
		t.Errorf("nothing is written as %q", got)
	}
}
