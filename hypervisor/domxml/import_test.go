package domxml

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd"
)

const direct1 = `<interface type='direct'><mac address='52:54:00:00:00:01'/><source dev='eno1' mode='bridge'/><model type='virtio'/></interface>`

// toNet is a choice that leaves everything to Import.
func toNet(Interface) (Element, error) { return Element{NIC: NIC{Network: "wan"}}, nil }

func TestWhatCannotBeKeptKeepsTheInterfaceAsItIs(t *testing.T) {
	denied := func(Interface) (Element, error) { return Element{}, errors.New("no rule allows it") }
	gives := func(e Element) func(Interface) (Element, error) {
		return func(Interface) (Element, error) { return e, nil }
	}
	inside := func(s string) string { return strings.Replace(direct1, "</interface>", s+"</interface>", 1) }
	const other = `<interface type='ethernet'><mac address='52:54:00:00:00:09'/><target dev='vmnnine' managed='no'/></interface>`
	for name, c := range map[string]struct {
		text   string
		choose func(Interface) (Element, error)
		want   string
	}{
		"bandwidth":      {inside("<bandwidth/>"), toNet, "<bandwidth> is in the way"},
		"filter":         {inside("<filterref filter='clean-traffic'/>"), toNet, "<filterref> is in the way"},
		"vlan":           {inside("<vlan><tag id='4'/></vlan>"), toNet, "<vlan> is in the way"},
		"virtualport":    {inside("<virtualport type='802.1Qbh'/>"), toNet, "<virtualport> is in the way"},
		"isolated":       {inside("<port isolated='yes'/>"), toNet, "<port> is in the way"},
		"foreign":        {inside("<x:mtu xmlns:x='x'/>"), toNet, "<mtu> is in the way"},
		"twice":          {inside("<model type='e1000'/>"), toNet, "a second <model> is in the way"},
		"filters":        {strings.Replace(direct1, " type='direct'", " type='direct' trustGuestRxFilters='yes'", 1), toNet, "<interface trustGuestRxFilters='yes'> is in the way"},
		"source":         {strings.Replace(direct1, "mode=", "portgroup='a&#10;b' mode=", 1), toNet, `<source portgroup='a\x0ab'> is in the way`},
		"in the source":  {strings.Replace(direct1, "mode='bridge'/>", "><reconnect/></source>", 1), toNet, "<reconnect> in its <source> is in the way"},
		"no MAC":         {`<interface type='bridge'><source bridge='br0'/></interface>`, toNet, "it has no <mac>"},
		"odd MAC":        {`<interface type='bridge'><mac address='01:00:00:00:00:00'/></interface>`, toNet, "is not one that a NIC of ours can have"},
		"one MAC twice":  {direct1 + direct1, toNet, "another interface has MAC 52:54:00:00:00:01 too"},
		"network":        {`<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>`, toNet, "its type is network"},
		"denied":         {direct1, denied, "no rule allows it"},
		"bad id":         {direct1, gives(Element{NIC: NIC{ID: "0"}}), `NIC id "0" is not`},
		"bad mode":       {direct1, gives(Element{NIC: NIC{Mode: "turbo"}}), `unknown mode "turbo"`},
		"foreign device": {direct1, gives(Element{Target: "tap0"}), "does not begin with vmn"},
		"long device":    {direct1, gives(Element{Target: "vmn4567890123456"}), "is too long"},
		"id taken":       {direct1 + other, gives(Element{NIC: NIC{ID: "vmnnine"}}), "the id vmnnine is that of the NIC with MAC 52:54:00:00:00:09"},
		"device taken":   {direct1 + other, gives(Element{Target: "vmnnine"}), "another interface has the device vmnnine"},
	} {
		t.Run(name, func(t *testing.T) {
			text := domain("<devices>" + c.text + "</devices>")
			got, changed, err := Import(text, c.choose)
			if err != nil || got != text {
				t.Fatalf("%v\n%s", err, got)
			}
			if len(changed) == 0 || !strings.Contains(changed[0].Problem, c.want) || changed[0].Now != (Element{}) {
				t.Errorf("got %+v, want %s", changed, c.want)
			}
		})
	}
}

func TestTwoInterfacesDoNotGetOneIDOrDevice(t *testing.T) {
	text := domain("<devices>" + direct1 + strings.Replace(direct1, "00:01'", "00:02'", 1) + "</devices>")
	for want, e := range map[string]Element{
		"the id a is that of the NIC with MAC 52:54:00:00:00:01": {NIC: NIC{ID: "a"}},
		"another interface has the device vmna":                  {Target: "vmna"},
	} {
		got, changed, err := Import(text, func(Interface) (Element, error) { return e, nil })
		if err != nil || len(changed) != 2 || changed[0].Problem != "" || changed[1].Problem != want {
			t.Fatalf("%v %+v", err, changed)
		}
		if strings.Count(got, "<interface type='direct'>") != 1 {
			t.Errorf("%s", got)
		}
	}
}

func TestWhatTheGuestSeesStays(t *testing.T) {
	const was = `<interface type="direct" trustGuestRxFilters='no'>
      <mac address="52:54:00:AA:00:01"/> <!-- the old card's -->
      <source dev="eno1" mode="passthrough"/>
      <model type="e1000e"/>
      <driver name='vhost' txmode='iothread' queues="4"><host csum='off'/></driver>
      <link state="down"/><mtu size="9000"/>
      <boot order="2"/>
      <address type="pci" domain="0x0000" bus="0x05" slot="0x00" function="0x0" multifunction="on"/>
    </interface>`
	const same = `<interface type='ethernet'>
      <mac address="52:54:00:AA:00:01"/>
      <target dev='vmnx' managed='no'/>
      <model type="e1000e"/>
      <driver name='vhost' txmode='iothread' queues="4"><host csum='off'/></driver>
      <link state="down"/>
      <mtu size="9000"/>
      <boot order="2"/>
      <address type="pci" domain="0x0000" bus="0x05" slot="0x00" function="0x0" multifunction="on"/>
    </interface>`
	for name, c := range map[string]struct {
		give Element
		want string
	}{
		"nothing": {Element{}, same},
		"MTU":     {Element{Queues: 2, MTU: 1400}, strings.Replace(same, `<mtu size="9000"/>`, `<mtu size='1400'/>`, 1)},
	} {
		e := c.give
		e.ID, e.Target, e.Addr, e.MAC = "net0", "vmnx", "0000:07:00.0", "52:54:00:00:00:77"
		got, changed, err := Import(domain("    <devices>\n    "+was+"</devices>"), func(Interface) (Element, error) { return e, nil })
		if err != nil || !strings.Contains(got, c.want) {
			t.Fatalf("%s: %v\n%s", name, err, got)
		}
		if now := changed[0].Now; now.MAC != "52:54:00:aa:00:01" || now.Addr != "0000:05:00.0" || !now.LinkDown || now.Was != was {
			t.Errorf("%s: %+v", name, now)
		}
	}
}

func TestAVirtioNICTakesTheQueuesOfTheChoice(t *testing.T) {
	for was, want := range map[string]string{
		"": "<driver queues='2'/><model type='virtio'/>",
		`<driver name="vhost" queues="4" x:y='z'><host csum='off'/></driver>`: `<model type='virtio'/><driver name='vhost' queues='2'><host csum='off'/></driver>`,
		`<driver name="vhost"/>`: `<model type='virtio'/><driver name='vhost' queues='2'/>`,
		`<driver queues="2"/>`:   `<model type='virtio'/><driver queues="2"/>`,
	} {
		text := domain("<devices>" + strings.Replace(direct1, "</interface>", was+"</interface>", 1) + "</devices>")
		got, changed, err := Import(text, func(Interface) (Element, error) { return Element{Queues: 2}, nil })
		if err != nil || !strings.Contains(got, want+"</interface>") || changed[0].Now.Queues != 2 {
			t.Errorf("%v %+v\n%s", err, changed, got)
		}
	}
}

// imports is a domain before an import, in every state of its metadata.
var imports = map[string]string{
	"no metadata":       domain("<devices>" + direct1 + "</devices>"),
	"in lines":          "<domain type='qemu'>\r\n  <name>vm1</name>\r\n  <title>t</title>\r\n  <devices>\r\n    " + direct1 + "\r\n  </devices>\r\n</domain>",
	"tabs":              "<domain>\n\t<name>vm1</name>\n\n\t<devices>\n\t\t" + direct1 + "\n\t</devices>\n</domain>\n",
	"in one line":       "<domain><name>vm1</name><devices>" + direct1 + "</devices></domain>",
	"name last":         "<domain><devices>" + direct1 + "</devices><name>vm1</name></domain>",
	"empty":             domain("<metadata/><devices>" + direct1 + "</devices>"),
	"empty, attribute":  domain("<metadata a='/>' /><devices>" + direct1 + "</devices>"),
	"empty, two tags":   domain("  <metadata a=''></metadata><devices>" + direct1 + "</devices>"),
	"white space":       domain("<metadata>\n \n</metadata >\n<devices>" + direct1 + "</devices>"),
	"comment":           domain("<metadata><!-- note --> </metadata>\n<devices>" + direct1 + "</devices>"),
	"another's":         domain("<metadata>\n  <x:y xmlns:x='x'/>\n</metadata>\n<devices>" + direct1 + "</devices>"),
	"another's, text":   domain("<metadata> a <x:y xmlns:x='x'/> b </metadata>\n<devices>" + direct1 + "</devices>"),
	"ours, empty":       domain("<metadata> <n:nics xmlns:n='" + NS + "' /> </metadata>\n<devices>" + direct1 + "</devices>"),
	"ours":              asked("<v:label name='a' value=\"b\"/>\r\n<v:nic mac='52:54:00:00:00:05' id='net0'/><!-- c --> " + "</v:nics></metadata><devices>" + direct1 + "</devices><metadata><v:nics xmlns:v='x'>"),
	"ours asks already": asked("<v:nic mac='52:54:00:00:00:01' id='net3' network='dmz'/>" + "</v:nics></metadata><devices>" + direct1 + "</devices><metadata><v:nics xmlns:v='x'>"),
	"declared above":    "<domain xmlns:v='" + NS + "'><name>vm1</name><metadata><v:nics><v:nic mac='52:54:00:00:00:05'/></v:nics></metadata><devices>" + direct1 + "</devices></domain>",
}

func TestRevertGivesEveryByteBack(t *testing.T) {
	for name, text := range imports {
		t.Run(name, func(t *testing.T) {
			got, changed, err := Import(text, toNet)
			if err != nil || len(changed) != 1 || changed[0].Problem != "" {
				t.Fatalf("%v %+v", err, changed)
			}
			d, err := Parse(got)
			if err != nil || len(d.Ours()) != 1 || d.NICOf(d.Ours()[0]).Network != "wan" {
				t.Fatalf("%v\n%s", err, got)
			}
			back, reverted, err := Revert(got)
			if err != nil || back != text {
				t.Fatalf("%v\n%s\n%s", err, got, cmp.Diff(text, back))
			}
			want := changed[0]
			want.Was.Target = ""
			if diff := cmp.Diff([]Changed{want}, reverted); diff != "" {
				t.Error(diff)
			}
			if again, list, err := Revert(back); again != text || len(list) != 0 || err != nil {
				t.Errorf("a second revert: %v %v\n%s", err, list, again)
			}
			if twice, list, err := Import(got, toNet); twice != got || len(list) != 0 || err != nil {
				t.Errorf("a second import: %v %v\n%s", err, list, twice)
			}
		})
	}
}

func TestRevertGivesEveryByteOfAnyDomainBack(t *testing.T) {
	space := rapid.SampledFrom([]string{"", " ", "\n  ", "\r\n\t", "\n\n    ", "<!-- c -->", "\n <!-- \r\n -->\n"})
	kid := rapid.SampledFrom([]string{"<model type='virtio'/>", `<driver queues="3"/>`, "<mtu  size='9000' />", "<boot order='1'></boot>", "<link state='down'/>", "<alias name='ua-\u00e9&#13;&#10;&lt;'/>", "<target dev='x'/>", "<![CDATA[]] & >]]>", "<vlan/>"})
	meta := rapid.SampledFrom([]string{"", "<metadata/>", "<metadata >S</metadata>", "<metadata>S<x:y xmlns:x='x'/>S</metadata>", "<metadata>S<nics xmlns='" + NS + "'>S<label name='a' value='b'/>S</nics>S</metadata>"})
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		put := func(list ...string) {
			for _, s := range list {
				b.WriteString(s + space.Draw(t, "space"))
			}
		}
		head := rapid.Permutation([]string{"<name>vm1</name>", "<title>t</title>", strings.ReplaceAll(meta.Draw(t, "metadata"), "S", space.Draw(t, "in metadata")), "<vcpu>2</vcpu>"}).Draw(t, "head")
		put(append([]string{"<domain>"}, head...)...)
		put("<devices>")
		for k := range rapid.IntRange(0, 4).Draw(t, "interfaces") {
			kinds := []string{"<interface type='direct'>", `<interface   type="bridge" >`, "<interface type='user'>"}
			put(rapid.SampledFrom(kinds).Draw(t, "kind"), "<mac address='"+mac(t, k%3)+"'/>")
			put(append(rapid.SliceOfNDistinct(kid, 0, 4, rapid.ID).Draw(t, "kids"), "<source dev='a' bridge='b'/>", "</interface>")...)
		}
		put("</devices>", "</domain>")
		text := b.String()
		imported, changed, err := Import(text, toNet)
		if err != nil {
			t.Fatalf("%v\n%q", err, text)
		}
		made := 0
		for _, c := range changed {
			if c.Problem == "" {
				made++
			}
		}
		if d, err := Parse(imported); err != nil || len(d.Ours()) != made {
			t.Fatalf("%v %d\n%q\n%q", err, made, text, imported)
		}
		if back, _, err := Revert(imported); err != nil || back != text {
			t.Fatalf("%v\n%q\n%q\n%q", err, text, imported, back)
		}
	})
}

func TestTwoImportsAreOneRevert(t *testing.T) {
	for name, text := range imports {
		text = strings.Replace(text, direct1, direct1+" "+strings.Replace(direct1, "00:01'", "00:02'", 1), 1)
		first, _, err := Import(text, func(i Interface) (Element, error) {
			if i.MAC == "52:54:00:00:00:02" {
				return Element{}, errors.New("not yet")
			}
			return Element{}, nil
		})
		if err != nil || first == text {
			t.Fatalf("%s: %v\n%s", name, err, first)
		}
		second, changed, err := Import(first, toNet)
		if err != nil || len(changed) != 1 || changed[0].Problem != "" {
			t.Fatalf("%s: %v %+v", name, err, changed)
		}
		if back, changed, err := Revert(second); err != nil || len(changed) != 2 || back != text {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(text, back))
		}
	}
}

func TestRevertLeavesWhatOthersWroteIntoMetadata(t *testing.T) {
	const theirs = "<x:y xmlns:x='x'/>"
	for name, text := range imports {
		got, _, err := Import(text, toNet)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err = Revert(strings.Replace(got, "</metadata", theirs+"</metadata", 1))
		if err != nil || strings.Count(got, theirs) != strings.Count(text, theirs)+1 || !strings.Contains(got, direct1) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// What was said after an import outlives the revert.
func TestRevertKeepsWhatWasSaidSince(t *testing.T) {
	for name, text := range imports {
		t.Run(name, func(t *testing.T) {
			imported, _, err := Import(text, toNet)
			if err != nil {
				t.Fatal(err)
			}
			before, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			d, err := Parse(imported)
			if err != nil {
				t.Fatal(err)
			}
			late := NIC{MAC: "52:54:00:00:00:0f", ID: "late", Network: "lan"}
			got, changed, err := Revert(setMetadata(t, imported, Metadata(d.WithNIC(late), d.Labels)))
			if err != nil || len(changed) != 1 || changed[0].Problem != "" || !strings.Contains(got, direct1) {
				t.Fatalf("%v %v\n%s", err, changed, got)
			}
			after, err := Parse(got)
			want := append(before.WithoutNIC("52:54:00:00:00:01"), late)
			if diff := cmp.Diff(want, after.NICs); err != nil || diff != "" || !cmp.Equal(before.Labels, after.Labels) {
				t.Errorf("%v %v\n%s", err, after.Labels, diff)
			}
			if strings.Contains(got, "was") {
				t.Errorf("something is left:\n%s", got)
			}
		})
	}
}

// setMetadata does to our element what virDomainSetMetadata does.
func setMetadata(t *testing.T, text, element string) string {
	t.Helper()
	doc, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	return splice(text, []edit{{doc.nics.start, doc.nics.end, strings.Replace(element, "<nics>", "<nics xmlns='"+NS+"'>", 1)}})
}

func TestRevertPutsNothingElseIn(t *testing.T) {
	const evil = `<interface type='direct'><mac address='52:54:00:00:00:01'/></interface><hostdev/>`
	const ours = `<interface type='ethernet'><mac address='52:54:00:00:00:01'/><target dev='vmnx' managed='no'/></interface>`
	for name, c := range map[string]struct{ was, device, want string }{
		"two elements": {evil, ours, "is not one <interface>"},
		"another":      {"<hostdev/>", ours, "is not one <interface>"},
		"no XML":       {"<interface", ours, "is not one <interface>"},
		"another MAC":  {strings.Replace(direct1, "00:01'", "00:02'", 1), ours, "another MAC, 52:54:00:00:00:02"},
		"gone":         {direct1, "", "no interface of ours has MAC 52:54:00:00:00:01 any more"},
		"not ours now": {direct1, direct1, "no interface of ours has MAC 52:54:00:00:00:01 any more"},
	} {
		text := domain("<metadata>" + nicsXML{nics: []NIC{{MAC: "52:54:00:00:00:01", Was: c.was}}, prefix: "v"}.String() + "</metadata><devices>" + c.device + "</devices>")
		got, changed, err := Revert(text)
		if err != nil || got != text || len(changed) != 1 || !strings.Contains(changed[0].Problem, c.want) {
			t.Errorf("%s: %v %+v\n%s", name, err, changed, got)
		}
	}
	// What is kept of <metadata> is no way in either.
	was := "<metadata/><devices><hostdev/></devices>"
	x := nicsXML{nics: []NIC{{MAC: "52:54:00:00:00:01", Was: direct1}}, prefix: "v", was: &was}
	got, _, err := Revert(domain("<metadata>" + x.String() + "</metadata><devices>" + ours + "</devices>"))
	if want := strings.Replace(domain("<devices>"+direct1+"</devices>"), "\n<devices>", "<devices>", 1); err != nil || got != want {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}

func TestImportRefusesWhatParseRefuses(t *testing.T) {
	for _, text := range []string{"<domstatus/>", asked("<v:nic/>")} {
		if _, _, err := Import(text, toNet); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("Import: %v", err)
		}
		if _, _, err := Revert(text); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("Revert: %v", err)
		}
	}
	// What it would write must be within the limits as well.
	long := strings.Replace(direct1, "</interface>", "<rom file='"+strings.Repeat("x", maxBytes/2)+"'/></interface>", 1)
	_, _, err := Import(domain("<devices>"+long+"</devices>"), toNet)
	invalid(t, err, "more than 4194304")
}
